"""One image's way through the engine, and what comes out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_store.ledger import Ledger
from model_store.policy import Plan

if TYPE_CHECKING:
    from service.engine.group import Group

Image = NDArray[np.uint8]
"""A decoded image, uint8 (3, H, W)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer.

    Attributes:
        classes: Class indices, most probable first, at most five.
        probabilities: Their probabilities.
        exit: The exit that answered, 1-based.
        flops: FLOPs charged: the image's own path.
        queue_s: Time in queues, seconds.
        compute_s: Time in launches, shared with the batch, seconds.
        degraded: Whether load made the answer cheaper than asked.
    """

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]
    exit: int
    flops: int
    queue_s: float
    compute_s: float
    degraded: bool = False


class LaunchError(Exception):
    """A batch could not be computed; its images have no answer."""


class Expired(Exception):
    """The deadline passed before the first exit answered."""


Outcome = Prediction | LaunchError | Expired


@dataclass(slots=True, eq=False)
class Ticket:
    """One image between admission and answer. The fields from ``position`` on belong to the worker's thread.

    Attributes:
        model: Key of the model that runs it.
        plan: Consulted exits, costs and thresholds.
        image: The decoded image; dropped once it has entered a batch.
        arrival_s: When it was submitted, monotonic seconds.
        deadline_s: When the answer is worth nothing any more, or ``None``.
        future: Takes the outcome; only the event loop touches it.
        ledger: Account of its budget level, or ``None`` without a budget or in a group.
        group: The request's other images under one exact sum, or ``None``.
        cancelled: Set by the client's side; seen when the next batch is formed.
        position: Index into ``plan.exits`` of the exit it is on its way to.
        enqueued_s: When it entered its present queue.
        queue_s: Time in queues so far.
        compute_s: Time in launches so far.
        answer: The last exit's answer, for deadlines.
    """

    model: str
    plan: Plan
    image: Image | None
    arrival_s: float
    future: asyncio.Future[Outcome]
    deadline_s: float | None = None
    ledger: Ledger | None = None
    group: Group | None = None
    cancelled: bool = False
    position: int = 0
    enqueued_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    answer: Prediction | None = None

    @property
    def first_block(self) -> int:
        """Block at which its next span begins."""
        return self.plan.exits[self.position - 1] + 1 if self.position else 0
