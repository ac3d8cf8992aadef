"""From tickets to a batch: where it is laid down, and which rows are in it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from conftest import random_images

from service.engine.batch import gather
from service.engine.executors import kept
from service.engine.queue import Entry
from service.engine.ticket import Ticket


def ticket(image: np.ndarray | None = None) -> Ticket:
    anything = cast(Any, None)
    return Ticket(model=None, plan=anything, image=image, arrival_s=0, future=anything)


def test_kept_rows_are_copies_in_the_order_asked_for_and_laid_out_as_before() -> None:
    maps = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    pooled = torch.randn(4, 7)
    mapped, vectors = kept((maps, pooled), [3, 0])
    expected = maps[[3, 0]].clone()
    assert mapped.is_contiguous(memory_format=torch.channels_last)
    maps.zero_()
    assert mapped.equal(expected) and vectors.equal(pooled[[3, 0]])


def test_images_are_stacked_where_the_executor_wants_them() -> None:
    images = random_images(3)
    room = torch.zeros(5, 3, 32, 32, dtype=torch.uint8)
    (batch,) = gather([Entry(ticket(image), None, 0) for image in images], (room[:3],))
    assert batch.data_ptr() == room.data_ptr()
    assert np.array_equal(room[:3].numpy(), images) and not room[3:].any()


def test_survivors_of_several_batches_are_joined_where_the_executor_wants_them() -> None:
    first, second = (torch.randn(3, 2),), (torch.randn(2, 2),)
    rows = [(first, 0), (first, 2), (second, 1)]
    room = torch.zeros(3, 2)
    entries = [Entry(ticket(), batch, row) for batch, row in rows]
    (joined,) = gather(entries, (room,))
    assert joined.data_ptr() == room.data_ptr()
    assert joined.equal(torch.stack([batch[0][row] for batch, row in rows]))
    assert gather(entries)[0].equal(room)
