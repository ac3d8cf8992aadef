"""From waiting tickets to one batch, and from a row of results to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_store.nets.staged import Features
from service.engine.executors import kept
from service.engine.queue import Entry
from service.engine.ticket import Prediction, Ticket


def gather(entries: Sequence[Entry], room: Features | None = None) -> Features:
    """One batch of features from wherever the entries' rows are; reorders ``entries`` never.

    Args:
        entries: The batch.
        room: Tensors to lay it down in where it has to be copied anyway, from ``Executor.inputs``.
    """
    if entries[0].batch is None:
        images: list[Any] = [entry.ticket.image for entry in entries]
        # Joined as bytes: NumPy would hand the interpreter over at each image.
        batch = np.frombuffer(bytearray().join(images), np.uint8).reshape(len(images), *images[0].shape)
        if room is None:
            return (torch.from_numpy(batch),)
        np.copyto(room[0].numpy(), batch)
        return room
    runs: list[tuple[Features, list[int]]] = []
    for entry in entries:
        if not runs or runs[-1][0] is not entry.batch:
            runs.append((entry.batch, []))
        runs[-1][1].append(entry.row)
    parts = [_rows(batch, rows) for batch, rows in runs]
    if len(parts) == 1:
        return parts[0]
    columns = list(zip(*parts, strict=True))
    outs = [None] * len(columns) if room is None else room
    return tuple(torch.cat(column, out=out) for column, out in zip(columns, outs, strict=True))


def _rows(batch: Features, rows: list[int]) -> Features:
    """The given rows of a batch; the batch itself, uncopied, if that is all of it in order."""
    return batch if rows == list(range(len(batch[0]))) else kept(batch, rows)


def rows(table: Tensor, entries: Sequence[Entry], appended: int) -> list[list[float]]:
    """What ``exits.read`` says of each image; those that want all probabilities take them along.

    Args:
        table: Of the batch, on the host.
        entries: The batch.
        appended: Columns at the end with the probabilities of all classes; 0 if it was read without.
    """
    if appended:
        for entry, row in zip(entries, table[:, -appended:].numpy(), strict=True):
            if entry.ticket.whole:
                entry.ticket.distribution = row.copy()  # a view would keep the whole batch alive
        table = table[:, :-appended]
    read: list[list[float]] = table.tolist()
    return read


def prediction(ticket: Ticket, row: Sequence[float], now_s: float) -> Prediction:
    """The answer of the exit that the ticket has reached at ``now_s``, from its row of ``exits.read``."""
    top = (len(row) - 1) // 2
    return Prediction(
        classes=tuple(int(value) for value in row[1 + top :]),
        probabilities=tuple(row[1 : 1 + top]),
        exit=ticket.plan.exits[ticket.position] + 1,
        flops=ticket.plan.costs[ticket.position],
        queue_s=ticket.queue_s,
        times=ticket.times,
        decided_s=now_s,
        degraded=ticket.degraded,
        distribution=ticket.distribution,
    )
