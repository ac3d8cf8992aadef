"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6; a teacher for CPUs.

Source: Tan and Le 2019, arXiv:1905.11946, Table 1; Liu 2020, "EfficientNet-Lite" (the TensorFlow blog).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from model_store.nets.layers import ConvUnit, PooledLinear
from model_store.nets.staged import Features, StagedNet

STEM_CHANNELS, LAST_CHANNELS = 32, 1280
"""Behind the first and the last convolution."""

EPSILON = 1e-3
"""Of BatchNorm, as the published weights were made."""

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride, channels and repeats: Table 1 of the paper."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection, plus the input where the shape allows."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int) -> None:
        """Build the block."""
        super().__init__()
        channels_mid = channels_in * expansion
        expand = [ConvUnit(channels_in, channels_mid, 1, activation="relu6")] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            ConvUnit(
                channels_mid, channels_mid, kernel, activation="relu6", stride=stride, groups=channels_mid
            ),
            nn.Conv2d(channels_mid, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H/s, W/s)."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class Trunk(nn.Module):
    """Scale the image to ``side`` pixels and compute its features, (B, 1280, side/32, side/32)."""

    def __init__(self, side: int) -> None:
        """Build stem, blocks and the last convolution."""
        super().__init__()
        self.side = side
        blocks: list[nn.Module] = [ConvUnit(3, STEM_CHANNELS, 3, activation="relu6", stride=2)]
        channels = STEM_CHANNELS
        for expansion, kernel, stride, width, repeats in STAGES:
            for number in range(repeats):
                blocks.append(
                    InvertedResidual(channels, width, expansion, kernel, stride if number == 0 else 1)
                )
                channels = width
        self.layers = nn.Sequential(*blocks, ConvUnit(channels, LAST_CHANNELS, 1, activation="relu6"))

    def forward(self, features: Features) -> Features:
        """Images of any size, float32 (B, 3, H, W)."""
        large = functional.interpolate(features[0], size=(self.side, self.side), mode="bilinear")
        return (self.layers(large),)


def efficientnet_lite0(num_classes: int = 10, *, side: int = 96) -> StagedNet:
    """Build EfficientNet-Lite0 as a network of one stage that scales its images.

    The published weights were made with padding that is uneven where the stride is 2: with them this network
    sees its images shifted by a pixel.

    Args:
        num_classes: Width of the linear layer.
        side: Pixels that the images are scaled to, a multiple of 32.

    Returns:
        The network; with 1,000 classes 4,652,008 parameters, without dropout.

    Raises:
        ValueError: A size is out of range.
    """
    if num_classes < 1 or side < 32 or side % 32:
        raise ValueError(f"need classes and a side of 32·n pixels, got {num_classes} and {side}")
    net = StagedNet([Trunk(side)], [PooledLinear(LAST_CHANNELS, num_classes)])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = EPSILON
    return net
