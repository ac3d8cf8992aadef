"""EfficientNet from torchvision, scaled by any factors.

Source: Tan and Le 2019, arXiv:1905.11946, Table 1 (B0) and section 3.3.
"""

from __future__ import annotations

from model_store.nets.staged import StagedNet
from model_store.nets.torchvision_nets import for_small_input, take_apart

GROUPS = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
"""Expansion, kernel, stride, channels in and out, repeats: Table 1 of the paper."""


def efficientnet(
    num_classes: int = 1000,
    *,
    depth: float = 1.0,
    width: float = 1.0,
    dropout: float = 0.2,
    small_input: bool = False,
) -> StagedNet:
    """Build EfficientNet-B0 times ``depth`` and ``width``.

    B1 to B7 are not exactly powers of the bases: the paper's authors rounded the factors, see ``zoo``.

    Args:
        num_classes: Width of the linear layer.
        depth: Factor on the repeats, rounded up.
        width: Factor on the channels, rounded to multiples of 8.
        dropout: Share of the pooled channels that are zero in training.
        small_input: No stride in the first convolution, for 32x32 pixels.

    Returns:
        The network; with the defaults 5,288,548 parameters, 386 MFLOPs at 224x224.

    Raises:
        ValueError: A size is out of range.
    """
    from model_store.torchvision_import import torchvision

    if num_classes < 1 or min(depth, width) <= 0:
        raise ValueError(
            f"num_classes, depth and width must be positive, got {num_classes}, {depth}, {width}"
        )
    MBConvConfig = torchvision.models.efficientnet.MBConvConfig
    groups = [MBConvConfig(*group, width_mult=width, depth_mult=depth) for group in GROUPS]
    net = take_apart(torchvision.models.EfficientNet(groups, dropout, num_classes=num_classes))
    return for_small_input(net) if small_input else net
