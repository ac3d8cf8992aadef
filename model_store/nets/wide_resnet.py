"""Wide residual networks: teachers. One exit, as wide and deep as the arguments say.

Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146, Table 1, without dropout.
"""

from __future__ import annotations

from torch import Tensor, nn

from model_store.nets.layers import Activation, PooledLinear, activation_layer
from model_store.nets.staged import Features, StagedNet

STAGE_WIDTHS = (16, 32, 64)
"""Channels of the three groups at width 1."""


class WideBlock(nn.Module):
    """BatchNorm, activation, 3x3, twice, plus the input; (B, C_in, H, W) to (B, C_out, H/s, W/s)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, activation: Activation) -> None:
        """Build the block; the input passes a 1x1 convolution where channels or size change."""
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(channels_in), activation_layer(activation))
        self.residual = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            activation_layer(activation),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
        )
        same = channels_in == channels_out and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the input, or to its projection."""
        active: Tensor = self.before(x)
        residual: Tensor = self.residual(active)
        return residual + (x if self.shortcut is None else self.shortcut(active))


class Trunk(nn.Module):
    """First convolution and three groups of blocks; the second and third halve the size."""

    def __init__(self, depth: int, width: int, activation: Activation) -> None:
        """Build for ``depth`` convolutions and ``width`` times the channels."""
        super().__init__()
        blocks: list[nn.Module] = []
        channels = STAGE_WIDTHS[0]
        for group, base in enumerate(STAGE_WIDTHS):
            for number in range((depth - 4) // 6):
                stride = 2 if group > 0 and number == 0 else 1
                blocks.append(WideBlock(channels, base * width, stride, activation))
                channels = base * width
        self.layers = nn.Sequential(
            nn.Conv2d(3, STAGE_WIDTHS[0], 3, 1, 1, bias=False),
            *blocks,
            nn.BatchNorm2d(channels),
            activation_layer(activation),
        )

    def forward(self, features: Features) -> Features:
        """(B, 3, H, W) to (B, 64·width, H/4, W/4)."""
        return (self.layers(features[0]),)


def wide_resnet(
    num_classes: int = 10, *, depth: int = 28, width: int = 10, activation: Activation = "relu"
) -> StagedNet:
    """Build WRN-``depth``-``width`` as a network of one stage.

    Args:
        num_classes: Width of the linear layer.
        depth: Convolutions on the way, 6·n + 4.
        width: Factor on the channels.
        activation: The paper's is ``relu``.

    Returns:
        The network; WRN-28-10 has 36.5 M parameters and 5.2 GFLOPs at 32x32.

    Raises:
        ValueError: ``depth`` is not 6·n + 4 with n >= 1, or a size is out of range.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6·n + 4 with n >= 1, got {depth}")
    if min(num_classes, width) < 1:
        raise ValueError(f"num_classes and width must be at least 1, got {num_classes} and {width}")
    return StagedNet([Trunk(depth, width, activation)], [PooledLinear(STAGE_WIDTHS[-1] * width, num_classes)])
