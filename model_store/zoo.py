"""The zoo: every network of the papers by name, with the papers' figures beside ours.

``zoo.json`` holds the table. A name means a network of ``NETWORKS``, its arguments, and the side of the
images that it was made for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, TypeAdapter
from torch import nn
from torch.overrides import TorchFunctionMode

from model_store.flops import count_stages, dense_flops
from model_store.nets import build
from model_store.nets.staged import StagedNet

LARGE_SIDE = 224
"""Height and width of ImageNet's usual images, pixels: where all networks can be compared."""

COUNTS_NOTHING = (
    nn.BatchNorm2d,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Dropout,
)
"""Layers that neither count nor change a shape: left out of what is only counted."""


class Paper(BaseModel, frozen=True, extra="forbid"):
    """What a paper says of a network."""

    source: str = Field(description="Paper and table.")
    parameters: int | None = Field(None, description="As the paper rounds it.")
    flops: int | None = Field(None, description="Multiply-adds at the native side, as the paper rounds it.")
    why: str | None = Field(None, description="Where ours differs by more than 2 %: why.")


class Entry(BaseModel, frozen=True, extra="forbid"):
    """One network of the zoo."""

    name: str
    network: str = Field(description="Entry of the network registry.")
    arguments: Mapping[str, Any] = Field(description="Keyword arguments that build it.")
    side: int = Field(description="Native height and width of its images, pixels.")
    paper: Paper | None = None

    def build(self, side: int, **changes: Any) -> StagedNet:
        """Build it for images of ``side`` pixels, randomly initialised; ``changes`` replace arguments."""
        sized = {"side": side} if "side" in self.arguments else {}
        return build(self.network, {**self.arguments, **sized, **changes})


class Counted(BaseModel, frozen=True):
    """An entry of the zoo with what we count."""

    name: str
    parameters: int
    flops: Mapping[str, int] = Field(
        description="Multiply-adds to the last exit with all heads, at 224x224 (``224``) and ``native``."
    )
    side: int = Field(description="Native height and width, pixels.")
    exits: int
    paper: Paper | None


@cache
def zoo() -> Mapping[str, Entry]:
    """All entries by name."""
    text = Path(__file__).with_name("zoo.json").read_text()
    return {entry.name: entry for entry in TypeAdapter(list[Entry]).validate_json(text)}


def count_zoo() -> Iterator[Counted]:
    """Count every entry at its native side and at 224 pixels."""
    for entry in zoo().values():
        net = _weightless(entry, entry.side)
        parameters = sum(parameter.numel() for parameter in net.parameters())
        _skeleton(net)
        native = dense_flops(count_stages(net, entry.side, entry.side))
        large = _skeleton(_weightless(entry, LARGE_SIDE)) if "side" in entry.arguments else net
        yield Counted(
            name=entry.name,
            parameters=parameters,
            flops={"224": dense_flops(count_stages(large, LARGE_SIDE, LARGE_SIDE))[-1], "native": native[-1]},
            side=entry.side,
            exits=len(native),
            paper=entry.paper,
        )


def _weightless(entry: Entry, side: int) -> StagedNet:
    """The network with shapes but neither memory nor values."""
    with torch.device("meta"), _NoInitialisation():
        return entry.build(side)


def _skeleton(net: StagedNet) -> StagedNet:
    """Take out what counts nothing, which is most of the time of counting. In place."""
    for name, module in list(net.named_modules()):
        if isinstance(module, COUNTS_NOTHING):
            net.set_submodule(name, nn.Identity())
    return net


class _NoInitialisation(TorchFunctionMode):
    """Skips what ``torch.nn.init`` does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))
