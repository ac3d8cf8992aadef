"""The exit rule on the device: one graph from logits to a small table, and one copy of it to the host."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model_store import exits
from service.engine.cuda_device import Device


class _Table(NamedTuple):
    """What one kind of reading returns, for the largest batch, and how to fill it for each size."""

    device: Tensor
    host: Tensor
    runs: tuple[Callable[[], None], ...]


class ExitReader:
    """Evaluates ``exits.read`` for the logits of any span.

    Attributes:
        logits: What the graphs read, float32 (largest size, classes).
    """

    def __init__(self, device: Device, sizes: Sequence[int], classes: int) -> None:
        """Record nothing yet.

        Args:
            device: Records and runs.
            sizes: Batch sizes to pad to, rising.
            classes: Width of the logits.
        """
        self._device, self._sizes = device, sizes
        self.logits = torch.zeros(sizes[-1], classes, device=device.place)
        self._tables: dict[tuple[exits.Confidence, bool], _Table] = {}

    def read(self, logits: Tensor, measure: exits.Confidence, temperature: float, whole: bool) -> Tensor:
        """See ``Executor.read``. The first call for a measure, ``whole`` or not, records all sizes."""
        images = len(logits)
        table = self._tables.get((measure, whole))
        if table is None:
            table = self._tables[measure, whole] = self._record(measure, whole)
        self.logits[:images].copy_(exits.scaled(logits, temperature))
        table.runs[bisect_left(self._sizes, images)]()
        # A tensor's own .cpu() goes through memory that is not pinned, and stops everything else meanwhile.
        table.host[:images].copy_(table.device[:images], non_blocking=True)
        self._device.mark()()
        return table.host[:images]

    def _record(self, measure: exits.Confidence, whole: bool) -> _Table:
        table = torch.zeros_like(exits.read(self.logits, measure, whole=whole))
        host = torch.zeros(table.shape, pin_memory=table.is_cuda)

        def recorded(size: int) -> Callable[[], None]:
            logits, room = self.logits[:size], table[:size]
            scratch = torch.empty_like(room)
            self._device.warm_up(lambda: _fill(scratch, exits.read(logits, measure, whole=whole)))
            return self._device.record(lambda: _fill(room, exits.read(logits, measure, whole=whole)))

        runs = [recorded(size) for size in reversed(self._sizes)]
        return _Table(table, host, tuple(reversed(runs)))


def _fill(room: Tensor, values: Tensor) -> None:
    room.copy_(values)
