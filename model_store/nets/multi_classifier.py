"""ResNet-MC and DenseNet-MC: ordinary networks with classifiers attached at several depths.

MSDNet's paper compares with them: without several scales and dense connections, early classifiers see
features that are not yet made for classifying, and disturb the later ones.

Source: Huang et al. 2018, arXiv:1703.09844, section 5 and appendix A. The paper does not say what its
classifiers look like here; these pool the features of their depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_store.nets.layers import PooledLinear, Trunk
from model_store.nets.resnet import Residual
from model_store.nets.staged import StagedNet

GROUPS = 3
"""Groups of blocks, each at half the resolution of the one before."""


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution; its output joins the input."""

    def __init__(self, channels: int, growth: int) -> None:
        """Build for ``channels`` in, ``channels + growth`` out."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=False),
            nn.Conv2d(channels, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C + growth, H, W)."""
        return torch.cat([x, self.layers(x)], dim=1)


class NormedLinear(PooledLinear):
    """Pooled linear head behind BatchNorm and ReLU, which dense layers leave to their readers."""

    def __init__(self, channels: int, num_classes: int) -> None:
        """Build for ``channels``."""
        convs = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=False))
        super().__init__(channels, num_classes, convs=convs)


def resnet_mc(
    num_classes: int = 10, *, blocks: int = 10, exits: Sequence[int] = (4, 8), channels: int = 16
) -> StagedNet:
    """Build ResNet-62 with classifiers behind the 4th and 8th block of each group, and at its end.

    Args:
        num_classes: Width of each exit's linear layer.
        blocks: Residual blocks of each of the three groups.
        exits: Blocks of a group that a classifier follows, 1-based.
        channels: Of the first group; the next ones have twice as many each.

    Returns:
        The network, 7 exits with the defaults.

    Raises:
        ValueError: A size is out of range.
    """
    _check(num_classes, channels, blocks, exits)
    stem = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )
    layers: list[nn.Module] = [stem]
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    width = channels
    for group in range(GROUPS):
        for number in range(1, blocks + 1):
            stride = 2 if group > 0 and number == 1 else 1
            wide = channels * 2**group
            layers.append(Residual(width, wide, wide, stride, "basic", 0))
            width = wide
            if number in exits or (group == GROUPS - 1 and number == blocks):
                stages.append(Trunk(nn.Sequential(*layers)))
                heads.append(PooledLinear(width, num_classes))
                layers = []
    return StagedNet(stages, heads)


def densenet_mc(
    num_classes: int = 10, *, layers: int = 16, exits: Sequence[int] = (6, 12), growth: int = 12
) -> StagedNet:
    """Build DenseNet-52 with classifiers behind the 6th and 12th layer of each group, and at its end.

    Args:
        num_classes: Width of each exit's linear layer.
        layers: Dense layers of each of the three groups.
        exits: Layers of a group that a classifier follows, 1-based.
        growth: New channels per layer; the first convolution has twice as many.

    Returns:
        The network, 7 exits with the defaults.

    Raises:
        ValueError: A size is out of range.
    """
    _check(num_classes, growth, layers, exits)
    width = 2 * growth
    modules: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    for group in range(GROUPS):
        for number in range(1, layers + 1):
            modules.append(DenseLayer(width, growth))
            width += growth
            if number in exits or (group == GROUPS - 1 and number == layers):
                stages.append(Trunk(nn.Sequential(*modules)))
                heads.append(NormedLinear(width, num_classes))
                modules = []
        if group < GROUPS - 1:
            modules += [
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=False),
                nn.Conv2d(width, width, 1, bias=False),
                nn.AvgPool2d(2),
            ]
    return StagedNet(stages, heads)


def _check(num_classes: int, channels: int, blocks: int, exits: Sequence[int]) -> None:
    if min(num_classes, channels, blocks) < 1:
        raise ValueError("num_classes, channels and the length of a group must be at least 1")
    if not all(1 <= number < blocks for number in exits):
        raise ValueError(f"exits must be between 1 and {blocks - 1}, got {list(exits)}")
