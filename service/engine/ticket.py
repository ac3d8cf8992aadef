"""One image's way through the engine, and what comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_store.ledger import Ledger
from model_store.policy import Plan
from service.engine.times import NO_TIME, LaunchTimes

if TYPE_CHECKING:
    from service.engine.group import Group
    from service.engine.loaded import LoadedModel

Image = NDArray[np.uint8]
"""A decoded image, uint8 (3, H, W)."""


class Launch(NamedTuple):
    """A launch as one of its images saw it, for traces; moments are monotonic seconds.

    Attributes:
        model: Name of the model.
        stage: The span that was run, as metrics name it.
        batch_size: Images in it.
        queued_s: When the image entered the queue.
        started_s: When the launch began.
        times: Time it took.
    """

    model: str
    stage: str
    batch_size: int
    queued_s: float
    started_s: float
    times: LaunchTimes


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer.

    Attributes:
        classes: Class indices, most probable first, at most five.
        probabilities: Their probabilities.
        exit: The exit that answered, 1-based.
        flops: FLOPs charged: the image's own path.
        queue_s: Time in queues, seconds.
        times: Time in launches, shared with the batch.
        decided_s: When its exit was evaluated, monotonic seconds.
        opens: Whether it is the first image of its request: the others wait for one another, too.
        degraded: Whether load made the answer cheaper than asked.
        distribution: Probabilities of all classes, float32 (num_classes,), if they were asked for.
    """

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]
    exit: int
    flops: int
    queue_s: float
    times: LaunchTimes
    decided_s: float
    degraded: bool = False
    distribution: NDArray[np.float32] | None = field(default=None, compare=False)

    @property
    def compute_s(self) -> float:
        """Time in launches, seconds."""
        return self.times.total_s


class LaunchError(Exception):
    """A batch could not be computed; its images have no answer."""


class Expired(Exception):
    """The deadline passed before the first exit answered."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What an exit said of an image that goes on."""

    prediction: Prediction


Outcome = Prediction | LaunchError | Expired


@dataclass(slots=True, eq=False)
class Ticket:
    """One image between admission and answer. The fields from ``position`` on belong to the worker's thread.

    Attributes:
        model: That runs it, whatever is loaded under its name by now.
        plan: Consulted exits, costs and thresholds.
        image: The decoded image; dropped once a launch has taken it in.
        arrival_s: When it was submitted, monotonic seconds.
        future: Takes the outcome; only the event loop touches it. ``None`` in the background.
        deadline_s: When it must leave with what it has, to be with the client in time, or ``None``.
        expires_s: When an answer is of no use any more: until then, whoever has none may still get one.
        due_s: By when the answer should be there: the order within a span.
        degraded: Whether load made its plan cheaper than asked.
        passing: Called on the event loop with each earlier exit's answer, or ``None``.
        whole: Whether its answers hold the probabilities of all classes.
        finished: Called on the worker's thread with the answer, instead of ``future``: background work.
        shadow: Ticket of the same image for another policy, which follows in the background, or ``None``.
        ledger: Account of its budget level, or ``None`` without a budget or in a group.
        group: The request's other images under one exact sum, or ``None``.
        trail: Takes the launches that it is in, if its request is traced.
        cancelled: Set by the client's side; seen when the next batch is formed.
        position: Index into ``plan.exits`` of the exit it is on its way to.
        enqueued_s: When it entered its present queue.
        queue_s: Time in queues so far.
        times: Time in launches so far.
        distribution: Probabilities of all classes at the last exit, with ``whole``.
        answer: The last exit's answer, for deadlines.
    """

    model: LoadedModel
    plan: Plan
    image: Image | None
    arrival_s: float
    future: asyncio.Future[Outcome] | None
    deadline_s: float | None = None
    expires_s: float = inf
    due_s: float = inf
    opens: bool = True
    degraded: bool = False
    passing: Callable[[LoadedModel, Prediction], None] | None = None
    whole: bool = False
    finished: Callable[[Prediction], None] | None = None
    shadow: Ticket | None = None
    ledger: Ledger | None = None
    group: Group | None = None
    trail: list[Launch] | None = None
    cancelled: bool = False
    position: int = 0
    enqueued_s: float = 0.0
    queue_s: float = 0.0
    times: LaunchTimes = NO_TIME
    distribution: NDArray[np.float32] | None = None
    answer: Prediction | None = None

    @property
    def first_block(self) -> int:
        """Block at which its next span begins."""
        return self.plan.exits[self.position - 1] + 1 if self.position else 0
