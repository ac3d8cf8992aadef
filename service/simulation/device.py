"""The service's own worker in virtual time: queues, scheduler, exit rule and accounts are the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from model_store.exits import Confidence
from model_store.nets.staged import Features, Span
from service.engine.brownout import Brownout
from service.engine.decide import Delivery
from service.engine.executors import Executor
from service.engine.queue import SpanQueues
from service.engine.reading import read_rows
from service.engine.scheduler import Pick, most_urgent
from service.engine.ticket import Image
from service.engine.watch import DriftWatch
from service.engine.worker import Worker
from service.metrics import Metrics
from service.simulation.costs import Costs
from service.simulation.machine import Machine, Thread


class Times(Protocol):
    """How long launches take, as ``SpanTimes`` knows it."""

    def seconds(self, span: Span, images: int) -> float:
        """Of one launch on an idle machine, filled up as the executor does."""
        ...

    def images_run(self, span: Span, images: int) -> int:
        """Images that a launch of ``images`` computes, see ``Executor.images_run``."""
        ...


class LaunchRecord(NamedTuple):
    """One launch; virtual seconds."""

    span: Span
    images: int
    started_s: float
    ended_s: float


def image_of(row: int) -> Image:
    """Stands for row ``row`` of the known images: its number, as uint8 (8,)."""
    return np.array([row], dtype=np.int64).view(np.uint8)  # nobody here looks at pixels


class VirtualExecutor(Executor):
    """Answers from known logits, after as long as a launch takes.

    Its features are those of ``image_of``, uint8 (B, 8).
    """

    def __init__(self, logits: Tensor, times: Times, costs: Costs, machine: Machine, python: Thread) -> None:
        """Know ``logits`` float32 (K, N, num_classes); what follows a launch is done by ``python``."""
        self._logits, self._times, self._costs, self._machine = logits, times, costs, machine
        self.thread, self._python = machine.thread(costs.threads), python
        self.launches: list[LaunchRecord] = []

    @property
    def device(self) -> str:
        """``virtual``."""
        return "virtual"

    def prepare(self, span: Span, often: bool = False) -> None:
        """There is nothing to compile."""

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """See ``Executor.run``; time goes by meanwhile."""
        rows = torch.from_numpy(features[0].numpy().view(np.int64)[:, 0])
        started_s, costs = self._machine.now_s, self._costs
        self._work(self.thread, self._times.seconds(span, len(rows)) + costs.among_s)
        self._work(self._python, costs.launch_s + costs.image_s * len(rows))
        self.launches.append(LaunchRecord(span, len(rows), started_s, self._machine.now_s))
        return features, self._logits[span.last, rows]

    def read(self, logits: Tensor, measure: Confidence, temperature: float, whole: bool) -> Tensor:
        """See ``Executor.read``."""
        return torch.from_numpy(read_rows(logits.numpy(), measure, temperature, whole))

    def images_run(self, span: Span, images: int) -> int:
        """As on the device that was measured."""
        return self._times.images_run(span, images)

    def _work(self, thread: Thread, seconds: float) -> None:
        """Have ``thread`` do a job, and come back when it is done."""
        done: list[bool] = []
        thread.do(seconds, lambda: done.append(True))
        self._machine.run_until(lambda: bool(done))


class _Wake(threading.Condition):
    """Waiting lets virtual time go by; when nothing can ever happen any more, ``ended`` is told."""

    def __init__(self, machine: Machine, ended: Callable[[], None]) -> None:
        super().__init__()
        self._machine, self._ended = machine, ended
        self._notified = False

    def notify(self, n: int = 1) -> None:
        """Something has arrived."""
        self._notified = True

    def wait(self, timeout: float | None = None) -> bool:
        """Until ``notify``, or ``timeout`` virtual seconds."""
        self._notified = False
        limit_s = inf if timeout is None else self._machine.now_s + timeout
        if not self._machine.run_until(lambda: self._notified, limit_s):
            self._ended()
        return self._notified


class VirtualWorker(Worker):
    """A worker without a thread: ``run`` lives through all that is planned on the machine."""

    def __init__(
        self,
        machine: Machine,
        hand_over: Callable[[Delivery], None],
        *,
        max_batch: int,
        max_wait_s: float,
        objective_s: float,
        arriving: Callable[[], int],
        pick: Pick = most_urgent,
        queues: Callable[[], SpanQueues] = SpanQueues,
    ) -> None:
        """See ``Worker``; ``queues`` makes other queues to compare with."""
        metrics = Metrics()
        super().__init__(
            metrics,
            Brownout(1.0, enabled=False),
            DriftWatch(0.0, metrics),
            hand_over,
            max_batch=max_batch,
            max_wait_s=max_wait_s,
            objective_s=objective_s,
            arriving=arriving,
            clock=lambda: machine.now_s,
            pick=pick,
        )
        self._queues = queues()
        self._wake = _Wake(machine, self._end)

    def run(self) -> None:
        """Until everything that was planned has happened."""
        self._run()

    def _end(self) -> None:
        self._stopping = True
