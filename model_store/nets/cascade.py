"""A cascade: whole networks one after the other as the stages of one; its features carry the image along.

What an early network says of an easy image stands; the others are asked only where it is unsure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_store.nets.staged import Features, StagedNet

Build = Callable[[str, Mapping[str, Any]], StagedNet]
"""From a network's name and arguments to the network."""


class Entry(nn.Module):
    """The carried image as a member takes it: scaled to its size and normalised its way."""

    mean: Tensor
    std: Tensor

    def __init__(self, height: int, width: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """``mean`` and ``std`` per channel, in units of 0..1."""
        super().__init__()
        self.size = (height, width)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 to (B, 3, height, width), normalised."""
        if image.shape[2:] != self.size:
            image = functional.interpolate(image, size=self.size, mode="bilinear", antialias=True)
        return (image - self.mean[:, None, None]) / self.std[:, None, None]


class CarriedBlock(nn.Module):
    """A member's block behind the image: (image, features...) to (image, features...)."""

    def __init__(self, block: nn.Module, entry: Entry | None) -> None:
        """Wrap ``block``; the first of a member has an ``entry`` and drops the features before it."""
        super().__init__()
        self.block, self.entry = block, entry

    def forward(self, features: Features) -> Features:
        """Advance this member."""
        image = features[0]
        inner = features[1:] if self.entry is None else (self.entry(image),)
        return (image, *self.block(inner))


class CarriedHead(nn.Module):
    """A member's head behind the image."""

    def __init__(self, head: nn.Module) -> None:
        """Wrap ``head``."""
        super().__init__()
        self.head = head

    def forward(self, features: Features) -> Tensor:
        """Logits, float32 (B, num_classes)."""
        logits: Tensor = self.head(features[1:])
        return logits


def cascade(members: Sequence[Mapping[str, Any]], build: Build) -> StagedNet:
    """Join networks in the order given; all their exits are exits of the cascade.

    Images enter in 0..1, not normalised (mean 0, standard deviation 1): each member normalises by itself.

    Args:
        members: Of each network ``network``, ``arguments``, ``height``, ``width``, ``mean`` and ``std``.
        build: Builds a network by name.

    Raises:
        ValueError: There are no members, or one lacks an entry.
    """
    if not members:
        raise ValueError("a cascade needs members")
    blocks: list[nn.Module] = []
    heads: list[nn.Module] = []
    for member in members:
        missing = {"network", "arguments", "height", "width", "mean", "std"} - set(member)
        if missing:
            raise ValueError(f"a member of a cascade lacks {', '.join(sorted(missing))}")
        net = build(member["network"], member["arguments"])
        entry: Entry | None = Entry(member["height"], member["width"], member["mean"], member["std"])
        for block, head in zip(net.blocks, net.heads, strict=True):
            blocks.append(CarriedBlock(block, entry))
            heads.append(CarriedHead(head))
            entry = None
    return StagedNet(blocks, heads)
