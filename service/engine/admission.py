"""Room for requests: how many may be in, and what a refused client is told."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import exp, expm1, inf

from service.engine.brownout import STEPS, Brownout
from service.metrics import Metrics

ROOM = 0.4
"""Share of the latency objective that those who are in may take. The rest is for what cannot be seen here:
requests in sockets that nobody has read yet, and how long it takes until somebody does."""

SETTLING = 0.15
"""Share of the objective after which the rate of departures tells what the server can do: from the first one
on after more requests are in than one launch takes. Before, nobody is refused."""

AT_FLOOR = 0.05
"""Share of the objective for which budgets are at their floor before anybody is refused. Not longer: at three
times the capacity as many came in 0.15 of it as then could not be answered in time."""

FADING_S = 1.0
"""Time over which departures count towards their rate: older ones fade."""


COMING_S = 0.003
"""Age from which who is admitted and still not queued sends slowly: nobody waits for its company."""


class NoPermit(Exception):
    """There is no room; ``retry_after_s`` is when there should be."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        """Say what is full."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Permit:
    """Room for one request; ``submitted`` tells that its images are in the queues.

    Attributes:
        since_s: When it was given, monotonic seconds.
    """

    __slots__ = ("_admission", "_arriving", "since_s")

    def __init__(self, admission: Admission, now_s: float) -> None:
        """Count as arriving."""
        self._admission, self.since_s = admission, now_s
        self._arriving = True
        admission.arriving += 1

    def submitted(self) -> None:
        """Count as queued, until ``Admission.departed``."""
        self.arrived()
        self._admission.queued += 1

    def arrived(self) -> None:
        """No longer on the way: queued, failed before, or slow."""
        if self._arriving:
            self._arriving = False
            self._admission.arriving -= 1


class Admission:
    """Counts who is in. The event loop owns it; the worker's thread reads ``arriving``.

    Attributes:
        arriving: Requests that are admitted and not yet queued; but for those who sent slowly when the last
            one came.
        queued: Requests whose images the engine has; who sends slowly, or waits for an account, is no crowd.
        in_flight: Requests that are admitted and not yet answered.
        brownout: What it may be spared by.
    """

    def __init__(
        self,
        max_in_flight: int,
        max_batch: int,
        objective_s: float,
        brownout: Brownout,
        metrics: Metrics,
        elsewhere: Callable[[], int] = lambda: 0,
    ) -> None:
        """Let ``max_in_flight`` requests in, and fewer where not even ``brownout`` holds the objective.

        Those that other processes are receiving, of which ``elsewhere`` knows, are in, too.
        Never fewer than ``max_batch``: one launch takes them all, so that it is no load that makes them wait.
        """
        self.arriving = self.queued = self.in_flight = 0
        self._max_in_flight, self._max_batch, self._objective_s = max_in_flight, max_batch, objective_s
        self.brownout, self._elsewhere = brownout, elsewhere
        metrics.in_flight_limit.set(max_in_flight)
        self._coming: deque[Permit] = deque()  # who was admitted of late, the oldest first
        self._departures = Departures()
        self._crowded = False
        self._floor_since_s: float | None = None

    @contextmanager
    def admit(self, patient: bool = True) -> Iterator[Permit]:
        """Hold room for one request, from before its body is decoded until its answer.

        Args:
            patient: Whether the latency objective is what its answer is due by, rather than a deadline.

        Raises:
            NoPermit: ``max_in_flight`` requests are in already, or the budgets are at their floor and another
                patient request could still not be answered in time.
        """
        now_s = time.monotonic()
        self._check_room(patient, now_s)
        while self._coming and now_s - self._coming[0].since_s > COMING_S:
            self._coming.popleft().arrived()
        self.in_flight += 1
        permit = Permit(self, now_s)
        self._coming.append(permit)
        try:
            yield permit
        finally:
            permit.arrived()
            self.in_flight -= 1

    def departed(self) -> None:
        """Count that the engine is done with a request, whatever became of its images: room is room."""
        self.queued -= 1
        self._departures.note(time.monotonic())

    def answered(self, waited_s: float) -> None:
        """Take notice of an answer that waited for ``waited_s`` seconds until the event loop did."""
        self.brownout.observe(waited_s, time.monotonic())

    def _check_room(self, patient: bool, now_s: float) -> None:
        self._look(now_s)
        known = self._departures.count >= self._max_batch  # a few are the easiest of the first launch
        drain_s = self._departures.drain_s(self.queued, now_s) if known else 0.0
        if self.in_flight + self._elsewhere() >= self._max_in_flight:
            raise NoPermit(f"all {self._max_in_flight} permits are taken", drain_s or 1.0)
        if not self._crowded or now_s - self._departures.since_s < SETTLING * self._objective_s:
            return
        self.brownout.observe(drain_s, now_s)  # who comes now waits longer than anybody has yet
        room_s = ROOM * self._objective_s
        floor_since_s = now_s if self._floor_since_s is None else self._floor_since_s
        if now_s - floor_since_s >= AT_FLOOR * self._objective_s and patient and drain_s > room_s:
            raise NoPermit(f"the requests before it take {drain_s:.2f} s, {room_s:g} s are allowed", drain_s)

    def _look(self, now_s: float) -> None:
        """Note since when budgets are at their floor; measure departures anew where a crowd begins."""
        if self.brownout.step(now_s) < STEPS:
            self._floor_since_s = None
        elif self._floor_since_s is None:
            self._floor_since_s = now_s
        crowded = self.queued >= self._max_batch
        if crowded and not self._crowded:
            self._departures = Departures()
        self._crowded = crowded


class Departures:
    """A fading count of requests that were answered, failed or left.

    Attributes:
        since_s: When the first of them was, monotonic seconds; ``inf`` before. Not earlier: a program that is
            compiled first says nothing of the rate.
        count: All of them.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.since_s = inf
        self._value = self._seen_s = 0.0
        self.count = 0

    def note(self, now_s: float) -> None:
        """Count one; ``now_s`` in monotonic seconds."""
        self.since_s = min(self.since_s, now_s)
        self._value = self._faded(now_s) + 1 / FADING_S
        self._seen_s = now_s
        self.count += 1

    def drain_s(self, waiting: int, now_s: float) -> float:
        """Expected seconds until ``waiting`` requests are gone; 0 where nobody can tell."""
        # The share of an endless count that there can be.
        known = -expm1(-max(0.0, now_s - self.since_s) / FADING_S)
        rate = self._faded(now_s) / known if known else 0.0
        return waiting / rate if rate >= 1 else 0.0

    def _faded(self, now_s: float) -> float:
        return self._value * exp(-(now_s - self._seen_s) / FADING_S)
