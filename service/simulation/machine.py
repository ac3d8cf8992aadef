"""Virtual time: threads with work to do, on processors that they share evenly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf

Then = Callable[[], None]
"""What is done in the moment in which something is over."""


@dataclass(slots=True)
class Job:
    """Work of a thread.

    Attributes:
        left_s: Undisturbed time that it still takes, seconds.
        then: What follows.
        kind: What it is, for who looks.
    """

    left_s: float
    then: Then
    kind: str = ""


@dataclass(slots=True, eq=False)
class Thread:
    """Does one job after the other.

    Attributes:
        width: Processors that it uses while it works.
        processor_s: Processor time that it has spent, seconds.
        working_s: Time in which it had something to do, seconds.
        jobs: What it has to do; the first is under way.
    """

    width: int = 1
    processor_s: float = 0.0
    working_s: float = 0.0
    jobs: deque[Job] = field(default_factory=deque)

    def do(self, seconds: float, then: Then, kind: str = "") -> None:
        """Work for ``seconds`` of undisturbed time once all earlier jobs are done, then call ``then``."""
        self.jobs.append(Job(seconds, then, kind))

    def is_at(self, kind: str) -> bool:
        """Whether the job under way is of ``kind``."""
        return bool(self.jobs) and self.jobs[0].kind == kind


class Machine:
    """A clock that runs from event to event.

    Where the threads at work want more processors than there are, all go slower by the same factor.

    Attributes:
        now_s: Virtual seconds since the beginning.
    """

    def __init__(self, cores: float) -> None:
        """Have ``cores`` processors and nothing to do."""
        self.now_s = 0.0
        self._cores = cores
        self._threads: list[Thread] = []
        self._timers: list[tuple[float, int, Then]] = []
        self._order = count()

    def thread(self, width: int = 1) -> Thread:
        """Start a thread that uses ``width`` processors while it works."""
        self._threads.append(Thread(width))
        return self._threads[-1]

    def at(self, time_s: float, then: Then) -> None:
        """Call ``then`` at ``time_s``, or now if that is over."""
        heappush(self._timers, (max(time_s, self.now_s), next(self._order), then))

    def run_until(self, done: Callable[[], bool], limit_s: float = inf) -> bool:
        """Let things happen until ``done`` or ``limit_s``; ``False`` once nothing would ever happen again."""
        while not done() and self.now_s < limit_s:
            if not self._step(limit_s):
                return False
        return True

    def _step(self, limit_s: float) -> bool:
        """Go on to the next event, not beyond ``limit_s``."""
        working = [thread for thread in self._threads if thread.jobs]
        speed = min(1.0, self._cores / sum(thread.width for thread in working)) if working else 1.0
        first = min(working, key=lambda thread: thread.jobs[0].left_s, default=None)
        end_s = self.now_s + first.jobs[0].left_s / speed if first is not None else inf
        timer_s = self._timers[0][0] if self._timers else inf
        moment_s = min(end_s, timer_s, limit_s)
        if moment_s == inf:
            return False
        self._work(working, speed, moment_s - self.now_s)
        self.now_s = moment_s
        if timer_s <= moment_s:
            heappop(self._timers)[-1]()
        elif first is not None and end_s <= moment_s:
            first.jobs.popleft().then()
        return True

    def _work(self, working: list[Thread], speed: float, seconds: float) -> None:
        for thread in working:
            thread.jobs[0].left_s = max(0.0, thread.jobs[0].left_s - seconds * speed)
            thread.processor_s += seconds * speed * thread.width
            thread.working_s += seconds
