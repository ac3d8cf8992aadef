"""What multi-scale dense networks share: scales dropped one by one, transitions, blocks and heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from torch import nn

from model_store.nets.layers import Activation, ConvUnit
from model_store.nets.staged import Features, StagedNet

CHANNEL_FACTORS = (1, 2, 4, 4)
"""Channels of a scale relative to the finest; the fourth exists only for inputs of 224 and the like."""


class Transition(nn.Module):
    """Halve the base channels (floor) of every scale by a 1x1 unit, after the finest scale was dropped."""

    def __init__(self, channels: int, factors: Sequence[int], activation: Activation) -> None:
        """Build for ``channels`` base channels in, ``channels // 2`` out."""
        super().__init__()
        self.units = nn.ModuleList(
            ConvUnit(channels * factor, channels // 2 * factor, 1, activation=activation)
            for factor in factors
        )

    def forward(self, features: Features) -> Features:
        """Apply each scale's unit."""
        return tuple(unit(x) for unit, x in zip(self.units, features, strict=True))


class Block(nn.Module):
    """The layers of one stage in sequence."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        """Keep ``layers`` in order."""
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Features) -> Features:
        """Run all layers."""
        for layer in self.layers:
            features = layer(features)
        return features


def multiscale(
    layers_per_block: Sequence[int],
    scales: int,
    channels: int,
    growth: int,
    activation: Activation,
    *,
    stem: nn.Module,
    layer: Callable[[int, Sequence[int], int], nn.Module],
    head: Callable[[int], nn.Module],
) -> StagedNet:
    """Lay out a network that drops its finest scale, and half the channels, every ⌈L/S⌉ of its L layers.

    Args:
        layers_per_block: Layers of each stage; as many stages as entries.
        scales: Scales S at the start.
        channels: Base channels n behind the stem; scale s has n·f_s.
        growth: New base channels per layer.
        activation: Of the transitions.
        stem: Images to all scales; the first module of the first stage.
        layer: Makes a layer from its base channels, the channel factors of the scales that come in, finest
            first, and how many of them live on.
        head: Makes a head from the channels of the coarsest scale.

    Source: Huang et al. 2018, arXiv:1703.09844, section 4, network reduction.
    """
    interval = ceil(sum(layers_per_block) / scales)
    factors: Sequence[int] = CHANNEL_FACTORS[:scales]
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    number = 0  # layers built so far
    for length in layers_per_block:
        layers: list[nn.Module] = [] if stages else [stem]
        for _ in range(length):
            dropped = number > 0 and number % interval == 0
            live = factors[1:] if dropped else factors
            layers.append(layer(channels, factors, len(live)))
            factors = live
            channels += growth
            if dropped:
                layers.append(Transition(channels, factors, activation))
                channels //= 2
            number += 1
        stages.append(Block(layers))
        heads.append(head(channels * factors[-1]))
    return StagedNet(stages, heads)
