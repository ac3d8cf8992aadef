"""The tensors of every model: what goes in and what comes out, in the protocol's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from service.engine.loaded import LoadedModel

IMAGE = "image"
"""The one input. Named as the parts of a multipart request to ``/classify`` are."""

PROBABILITIES, LABEL, EXIT, FLOPS = "probabilities", "label", "exit", "flops"
"""The outputs: float32 per class; the most probable class; the exit, 1-based; FLOPs charged."""


class TensorSpec(NamedTuple):
    """A tensor of one image: in requests and answers a dimension for the images comes first.

    Attributes:
        name: Of the tensor.
        datatype: As the protocol spells it.
        dims: Sizes; -1 where it depends on which model of a task answers.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]


def input_of(models: Sequence[LoadedModel]) -> TensorSpec:
    """What the models, one or those of a task, take: pixels as image libraries have them, RGB."""
    heights = {model.manifest.input.height for model in models}
    widths = {model.manifest.input.width for model in models}
    sides = (sizes.pop() if len(sizes) == 1 else -1 for sizes in (heights, widths))
    return TensorSpec(IMAGE, "UINT8", (*sides, 3))


def outputs_of(models: Sequence[LoadedModel]) -> tuple[TensorSpec, ...]:
    """What the models give; the first is what clients that show only one will show."""
    classes = len(models[0].manifest.classes)  # models of one task share them
    return (
        TensorSpec(PROBABILITIES, "FP32", (classes,)),
        TensorSpec(LABEL, "BYTES", (1,)),
        TensorSpec(EXIT, "INT32", (1,)),
        TensorSpec(FLOPS, "INT64", (1,)),
    )
