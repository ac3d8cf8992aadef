"""The multi-exit fusion network: MSDNet with a lean stem and fusion across scales within a layer.

Source: Addad, Lechervy, Jurie 2023, "Multi-Exit Resource-Efficient Neural Architecture for Image
Classification with Optimized Fusion Block", ICCV workshops (HAL hal-04181149). What the paper leaves open is
pinned down by its
FLOPs: 64.2 M at the last of 7 exits, 15 % below MSDNet's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from model_store.nets.layers import Activation, Bottleneck, ConvUnit, PooledLinear
from model_store.nets.multiscale import CHANNEL_FACTORS, multiscale
from model_store.nets.staged import Features, StagedNet


class Stem(nn.Module):
    """Images (B, 3, H, W) to S scales (B, n·f_s, H/(2d·2^s), W/(2d·2^s)), d = 2 for large inputs, else 1.

    The paper's stem halves the size at its end; a lean one at its entry, with the same filters, so that
    nothing but the images has full resolution.
    """

    def __init__(
        self, channels: int, scales: int, activation: Activation, large_input: bool, lean: bool
    ) -> None:
        """Build the stem for ``channels`` base channels n."""
        super().__init__()
        entry_stride, reduce_stride = (2 if large_input or lean else 1), (1 if lean else 2)
        self.entry = ConvUnit(3, channels, 3, activation=activation, stride=entry_stride)
        self.mix = nn.Sequential(
            ConvUnit(channels, channels, 3, activation=activation, groups=channels),
            ConvUnit(channels, channels, 1, activation=activation),
        )
        self.reduce = ConvUnit(
            channels, channels, 3, activation=activation, groups=channels, stride=reduce_stride
        )
        widths = [channels * factor for factor in CHANNEL_FACTORS[:scales]]
        self.coarser = nn.ModuleList(
            ConvUnit(wide, wider, 3, activation=activation, stride=2) for wide, wider in pairwise(widths)
        )

    def forward(self, features: Features) -> Features:
        """Compute all scales, finest first."""
        entry = self.entry(features[0])
        scales = [self.reduce(entry + self.mix(entry))]
        for step in self.coarser:
            scales.append(step(scales[-1]))
        return tuple(scales)


class FusionLayer(nn.Module):
    """One dense layer over the live scales: base channels n in, n + growth out.

    The finest live scale grows by ``normal``; every coarser one by ``normal`` and by ``down``, which reads
    the finer scale's output of *this* layer, new channels included: the fusion that MSDNet lacks.
    """

    def __init__(
        self, channels: int, growth: int, factors: Sequence[int], activation: Activation, gone: int = 0
    ) -> None:
        """Build the layer for the live scales with channel ``factors``, finest first.

        Units are named by their scale, counted on from the ``gone`` scales that were dropped early: so
        weights fit a network that keeps those scales.
        """
        super().__init__()
        self.normal = nn.ModuleDict()
        self.down = nn.ModuleDict()
        for scale, factor in enumerate(factors):
            c_in, c_new = channels * factor, growth * factor // (1 if scale == 0 else 2)
            normal = Bottleneck(c_in, min(c_in, factor * c_new), c_new, activation=activation)
            self.normal[str(gone + scale)] = normal
            if scale > 0:
                finer = factors[scale - 1]
                c_in = (channels + growth) * finer
                down = Bottleneck(c_in, min(c_in, finer * c_new), c_new, activation=activation, stride=2)
                self.down[str(gone + scale - 1)] = down

    def forward(self, features: Features) -> Features:
        """Grow the coarsest ``len(self.normal)`` scales of ``features``; finer ones are dropped."""
        live = features[len(features) - len(self.normal) :]
        finest, *coarser = self.normal.values()
        grown = [torch.cat([live[0], finest(live[0])], dim=1)]
        for x, normal, down in zip(live[1:], coarser, self.down.values(), strict=True):
            grown.append(torch.cat([x, down(grown[-1]), normal(x)], dim=1))
        return tuple(grown)


class Head(PooledLinear):
    """Classifier on the coarsest scale: 3x3 stride 2 to 128, 1x1 to 128, global average pool, linear."""

    def __init__(self, channels: int, num_classes: int, activation: Activation, width: int = 128) -> None:
        """Build for ``channels`` at the coarsest scale."""
        convs = nn.Sequential(
            ConvUnit(channels, width, 3, activation=activation, stride=2),
            ConvUnit(width, width, 1, activation=activation),
        )
        super().__init__(width, num_classes, convs=convs)


def fusion(
    num_classes: int = 10,
    *,
    channels: int = 32,
    growth: int = 12,
    layers_per_block: Sequence[int] = (4, 2, 2, 2, 2, 2, 2),
    scales: int = 3,
    activation: Activation = "relu",
    large_input: bool = False,
    lean_stem: bool = False,
    interval: int | None = None,
    finest_layers: int | None = None,
) -> StagedNet:
    """Build the fusion network.

    Args:
        num_classes: Width of each exit's linear layer.
        channels: Base channels n; scale s has n·f_s.
        growth: New base channels per layer.
        layers_per_block: Layers of each stage; as many stages as entries.
        scales: Scales S at the start; one is dropped every ``interval`` layers.
        activation: ``relu`` is 4-13 % faster on a CPU (``model_store/README.md``); the paper names none.
        large_input: Stem with stride 4 for inputs of 224 and the like (use 4 scales there).
        lean_stem: The stem halves the size at its entry, not at its end.
        interval: ⌈L/S⌉ unless given, as a network that ends earlier has to.
        finest_layers: The finest scale is dropped after as many layers, not at the first reduction.

    Returns:
        The network; defaults are the paper's CIFAR-10 configuration, 5,051,958 parameters.

    Raises:
        ValueError: A size is out of range.

    Source: Addad et al. 2023, section 2.
    """
    if not 1 <= scales <= len(CHANNEL_FACTORS):
        raise ValueError(f"scales must be 1..{len(CHANNEL_FACTORS)}, got {scales}")
    if min([num_classes, channels, *layers_per_block], default=0) < 1 or not layers_per_block:
        raise ValueError("num_classes, channels and every entry of layers_per_block must be at least 1")
    if lean_stem and large_input:
        raise ValueError("lean_stem is for small inputs: a stem of stride 4 is lean already")
    if growth < 2 or growth % 2:
        raise ValueError(f"growth must be even (coarser scales take half from each path), got {growth}")
    return multiscale(
        layers_per_block,
        scales,
        channels,
        growth,
        activation,
        stem=Stem(channels, scales, activation, large_input, lean_stem),
        layer=lambda base, factors, live, gone: FusionLayer(base, growth, factors[-live:], activation, gone),
        head=lambda coarsest: Head(coarsest, num_classes, activation),
        reads_dropped=False,
        interval=interval,
        finest_layers=finest_layers,
    )
