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
    """The layers of one stage in sequence; hands on the coarsest ``scales`` of what the last one makes."""

    def __init__(self, layers: Sequence[nn.Module], scales: int) -> None:
        """Keep ``layers`` in order."""
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.scales = scales

    def forward(self, features: Features) -> Features:
        """Run all layers."""
        for layer in self.layers:
            features = layer(features)
        return features[len(features) - self.scales :]


def live_scales(layers: int, scales: int, interval: int | None, finest_layers: int | None) -> list[int]:
    """How many scales each of ``layers`` layers works on; the others as ``multiscale`` takes them.

    Raises:
        ValueError: The layers outlast the scales, or the finest scale would outlast its turn.
    """
    interval = ceil(layers / scales) if interval is None else interval
    if interval < 1 or scales * interval < layers:
        raise ValueError(f"{scales} scales of {interval} layers each do not last for {layers} layers")
    live = [scales - number // interval for number in range(layers)]
    if finest_layers is None:
        return live
    if not 1 <= finest_layers <= interval or scales == 1:
        raise ValueError(f"finest_layers must be 1..{interval} with scales to spare, got {finest_layers}")
    return [min(count, scales - (number >= finest_layers)) for number, count in enumerate(live)]


def multiscale(
    layers_per_block: Sequence[int],
    scales: int,
    channels: int,
    growth: int,
    activation: Activation,
    *,
    stem: nn.Module,
    layer: Callable[[int, Sequence[int], int, int], nn.Module],
    head: Callable[[int], nn.Module],
    reads_dropped: bool,
    interval: int | None = None,
    finest_layers: int | None = None,
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
            first, how many of them live on, and how many went early.
        head: Makes a head from the channels of the coarsest scale.
        reads_dropped: A layer reads the scale that is dropped before it. Else nobody hands it on.
        interval: Layers between two reductions instead of ⌈L/S⌉.
        finest_layers: Layers of the finest scale, if it goes before the first reduction; channels are still
            halved there.

    Raises:
        ValueError: The layers outlast the scales, or the finest scale would outlast its turn.

    Source: Huang et al. 2018, arXiv:1703.09844, section 4, network reduction.
    """
    total = sum(layers_per_block)
    live = live_scales(total, scales, interval, finest_layers)
    halved = live_scales(total, scales, interval, None)
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    number = 0  # layers built so far
    factors: Sequence[int] = CHANNEL_FACTORS[:scales]
    for length in layers_per_block:
        layers: list[nn.Module] = [] if stages else [stem]
        for _ in range(length):
            layers.append(layer(channels, factors, live[number], halved[number] - live[number]))
            factors = factors[len(factors) - live[number] :]
            channels += growth
            if number > 0 and halved[number] < halved[number - 1]:
                layers.append(Transition(channels, factors, activation))
                channels //= 2
            number += 1
        handed_on = len(factors) if reads_dropped or number == total else live[number]
        stages.append(Block(layers, handed_on))
        heads.append(head(channels * factors[-1]))
    return StagedNet(stages, heads)
