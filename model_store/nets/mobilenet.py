"""MobileNets that scale in depth and width: V1, and V2 from torchvision.

Source: Howard et al. 2017, arXiv:1704.04861, Table 1; Sandler et al. 2018, arXiv:1801.04381, Table 2.
"""

from __future__ import annotations

from torch import nn

from model_store.nets.layers import ConvUnit, PooledLinear, Trunk
from model_store.nets.scaling import scaled_channels, scaled_depth
from model_store.nets.staged import StagedNet
from model_store.nets.torchvision_nets import for_small_input, take_apart

V1_STEM = 32
V1_GROUPS = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Channels, repeats, stride of the first: Table 1 of V1."""

V2_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, repeats, stride of the first: Table 2 of V2."""


def mobilenet_v1(
    num_classes: int = 1000, *, depth: float = 1.0, width: float = 1.0, small_input: bool = False
) -> StagedNet:
    """Build MobileNetV1: depthwise 3x3 and 1x1 convolutions in turn.

    Args:
        num_classes: Width of the linear layer.
        depth: Factor on the repeats, rounded up.
        width: Factor on all channels, rounded to multiples of 8.
        small_input: No stride in the first convolution, for 32x32 pixels.

    Returns:
        The network; with the defaults 4,231,976 parameters, 569 MFLOPs at 224x224.

    Raises:
        ValueError: A size is out of range.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    channels = scaled_channels(V1_STEM, width)
    layers: list[nn.Module] = [
        ConvUnit(3, channels, 3, activation="relu", stride=1 if small_input else 2),
    ]
    for base, repeats, first_stride in V1_GROUPS:
        channels_out = scaled_channels(base, width)
        for position in range(scaled_depth(repeats, depth)):
            stride = first_stride if position == 0 else 1
            layers.append(ConvUnit(channels, channels, 3, activation="relu", stride=stride, groups=channels))
            layers.append(ConvUnit(channels, channels_out, 1, activation="relu"))
            channels = channels_out
    return StagedNet([Trunk(nn.Sequential(*layers))], [PooledLinear(channels, num_classes)])


def mobilenet_v2(
    num_classes: int = 1000, *, depth: float = 1.0, width: float = 1.0, small_input: bool = False
) -> StagedNet:
    """Build torchvision's MobileNetV2, scaled.

    Args:
        num_classes: Width of the linear layer.
        depth: Factor on the repeats, rounded up.
        width: Factor on all channels, rounded to multiples of 8; the last 1,280 never shrink.
        small_input: No stride in the first convolution, for 32x32 pixels.

    Returns:
        The network; with the defaults 3,504,872 parameters, 301 MFLOPs at 224x224.

    Raises:
        ValueError: A size is out of range.
    """
    from model_store.torchvision_import import torchvision

    if num_classes < 1 or width <= 0:
        raise ValueError(f"num_classes and width must be positive, got {num_classes} and {width}")
    groups = [
        [expansion, channels, scaled_depth(repeats, depth), stride]
        for expansion, channels, repeats, stride in V2_GROUPS
    ]
    model = torchvision.models.MobileNetV2(num_classes, width, inverted_residual_setting=groups)
    net = take_apart(model)
    return for_small_input(net) if small_input else net
