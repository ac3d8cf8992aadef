"""RANet: sub-networks from low to high resolution; each one reads what the one before it computed.

Source: Yang, Han, Chen, Song, Dai, Huang 2020, "Resolution Adaptive Networks for Efficient Inference", CVPR
(arXiv:2003.07326), section 3. What the paper leaves open (where it halves channels and sizes, how wide the
bottlenecks are) follows the numbers of its PyTorch implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_store.nets.layers import Activation, Bottleneck, ConvUnit
from model_store.nets.msdnet import Head
from model_store.nets.staged import Features, StagedNet

COMPRESSION = 0.25
"""Share of a fusing layer's new channels that come from the coarser sub-network."""

REDUCTION = 0.5
"""Share of the channels that a transition keeps."""


def resized(x: Tensor, like: Tensor) -> Tensor:
    """``x`` bilinearly at the height and width of ``like``."""
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class FirstLayer(nn.Module):
    """Images (B, 3, H, W) to the base features of every sub-network, coarsest first."""

    def __init__(self, channels: int, factors: Sequence[int], scales: Sequence[int], act: Activation) -> None:
        """Build; ``factors`` and ``scales`` are those of the sub-networks, coarsest first."""
        super().__init__()
        self.units = nn.ModuleList()
        channels_in, finer = 3, scales[-1]
        for factor, scale in zip(reversed(factors), reversed(scales), strict=True):
            stride = 1 if scale == finer else 2
            self.units.append(ConvUnit(channels_in, channels * factor, 3, activation=act, stride=stride))
            channels_in, finer = channels * factor, scale

    def forward(self, images: Tensor) -> Features:
        """Compute all, each from the finer one."""
        bases = [images]
        for unit in self.units:
            bases.append(unit(bases[-1]))
        return tuple(reversed(bases[1:]))


class Layer(nn.Module):
    """Dense layer: x, then what a bottleneck makes of it and, if it fuses, one of the coarser features."""

    def __init__(
        self, channels: int, coarser: int, growth: int, factors: Sequence[int], down: bool, act: Activation
    ) -> None:
        """Build for ``channels`` of x and ``coarser`` channels of the other, 0 for none.

        ``factors`` are the bottleneck factors of the coarser and of this sub-network; ``down`` halves sizes.
        """
        super().__init__()
        from_coarser = int(growth * COMPRESSION) if coarser else 0
        own, other = growth - from_coarser, min(coarser, factors[0] * from_coarser)
        mid = min(channels, factors[1] * own)
        self.normal = Bottleneck(channels, mid, own, activation=act, stride=2 if down else 1)
        self.up = Bottleneck(coarser, other, from_coarser, activation=act) if coarser else None

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        """(B, C, H, W) and the coarser features to (B, C + growth, H/s, W/s)."""
        new = self.normal(x)
        if self.up is None or coarser is None:
            return torch.cat([x, new], dim=1)
        return torch.cat([resized(x, new), resized(self.up(coarser), new), new], dim=1)


class DenseBlock(nn.Module):
    """Layers of one block, the coarser features themselves at the end, and perhaps a transition.

    Attributes:
        recorded: Channels of the block's input and of each layer's output, which the next sub-network reads.
        channels: Of the block's output.
    """

    def __init__(
        self,
        channels: int,
        growth: int,
        layers: int,
        coarser: Sequence[int],
        factors: Sequence[int],
        *,
        down: bool,
        transition: bool,
        activation: Activation,
    ) -> None:
        """Build; ``coarser`` is what the sub-network before recorded in this block, or empty."""
        super().__init__()
        self.recorded = [channels + growth * number for number in range(layers + 1)]
        self.layers = nn.ModuleList()
        for number, incoming in enumerate(self.recorded[:-1]):
            halves = down and number == layers - 1
            read = coarser[number] if coarser else 0
            self.layers.append(Layer(incoming, read, growth, factors, halves, activation))
        self.channels = self.recorded[-1]
        self.last: nn.Module | None = None
        if coarser:
            added = int(self.channels * COMPRESSION)
            self.last = ConvUnit(coarser[-1], added, 1, activation=activation)
            self.channels += added
        self.transition: nn.Module = nn.Identity()
        if transition:
            kept = int(self.channels * REDUCTION)
            self.transition = ConvUnit(self.channels, kept, 1, activation=activation)
            self.channels = kept

    def forward(self, x: Tensor, coarser: Features) -> tuple[Tensor, list[Tensor]]:
        """The block's output, and x with each layer's output."""
        outputs = [x]
        for number, layer in enumerate(self.layers):
            outputs.append(layer(outputs[-1], coarser[number] if coarser else None))
        x = outputs[-1]
        if self.last is not None:
            x = torch.cat([x, resized(self.last(coarser[-1]), x)], dim=1)
        return self.transition(x), outputs


class Stage(nn.Module):
    """Blocks up to one exit. Its features: bases of later sub-networks, recorded outputs, x.

    The first stage of a sub-network begins with its base and reads what the sub-network before recorded.
    """

    def __init__(
        self, blocks: Sequence[DenseBlock], later: int, begins: bool, stem: nn.Module | None
    ) -> None:
        """Build from ``blocks``; ``later`` sub-networks come after this one; ``stem`` for the first stage."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.stem, self.later, self.begins = stem, later, begins

    def forward(self, features: Features) -> Features:
        """Advance to the exit."""
        coarser: Features = ()
        if self.stem is not None:
            features = (*self.stem(features[0]), features[0])
        if self.begins:
            x, *bases = features[: self.later + 1]
            recorded: list[Tensor] = []
            coarser = features[self.later + 1 : -1]
        else:
            bases, recorded, x = list(features[: self.later]), list(features[self.later : -1]), features[-1]
        for block in self.blocks:
            assert isinstance(block, DenseBlock)
            read = len(block.recorded) if block.last is not None else 0
            x, outputs = block(x, coarser[:read])
            coarser = coarser[read:]
            recorded += outputs if self.later else []
        return (*bases, *recorded, x)


def ranet(
    num_classes: int = 10,
    *,
    blocks: int = 2,
    block_step: int = 2,
    layers: int = 4,
    channels: int = 16,
    growth: int = 6,
    scales: Sequence[int] = (1, 2, 3, 3),
    factors: Sequence[int] = (4, 2, 1, 1),
    activation: Activation = "relu",
) -> StagedNet:
    """Build RANet for CIFAR.

    Args:
        num_classes: Width of each exit's linear layer.
        blocks: Blocks of the coarsest sub-network, an exit behind each.
        block_step: How many more the next one has; an exit behind each of those that are more.
        layers: Dense layers of a block.
        channels: Base channels n; a sub-network starts from n times its factor.
        growth: New channels per layer, times the sub-network's factor.
        scales: Resolution of each sub-network's base, coarsest (1) first; the last one's is the images'.
        factors: Channel and bottleneck factors of the sub-networks.
        activation: The paper's is ``relu``.

    Returns:
        The network; defaults are the paper's for CIFAR, with 8 exits.

    Raises:
        ValueError: A size is out of range, or the lists do not fit.
    """
    if len(scales) != len(factors) or not scales or scales[0] != 1:
        raise ValueError(f"scales start with 1 and need a factor each, got {scales} and {factors}")
    if any(finer - coarser not in (0, 1) for coarser, finer in pairwise(scales)):
        raise ValueError(f"scales rise by 0 or 1, got {scales}")
    if min([num_classes, blocks, block_step, layers, channels, *factors]) < 1 or growth < 4:
        raise ValueError("growth must be at least 4 and all other sizes at least 1")
    counts = list(accumulate([blocks] + [block_step] * (len(scales) - 1)))
    stages: list[nn.Module] = []
    heads: list[nn.Module] = []
    recorded: list[list[int]] = []
    for index, (scale, factor, count) in enumerate(zip(scales, factors, counts, strict=True)):
        done = counts[index - 1] if index else 0
        downs = counts[:index][-(scale - 1) :] if scale > 1 else []
        transitions = {(part + 1) * count // scale for part in range(scale - 1)}
        width, net_blocks = channels * factor, []
        for number in range(1, count + 1):
            block = DenseBlock(
                width,
                growth * factor,
                layers,
                recorded[number - 1] if number <= done else (),
                (factors[max(index - 1, 0)], factor),
                down=number in downs,
                transition=number in transitions,
                activation=activation,
            )
            width = block.channels
            net_blocks.append(block)
            if number > done:
                heads.append(Head(width, 128, num_classes, activation))
        stem = FirstLayer(channels, factors, scales, activation) if index == 0 else None
        later = len(scales) - 1 - index
        stages.append(Stage(net_blocks[: done + 1], later, True, stem))
        stages += [Stage([block], later, False, None) for block in net_blocks[done + 1 :]]
        recorded = [block.recorded for block in net_blocks]
    return StagedNet(stages, heads)
