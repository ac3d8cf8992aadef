"""The one thread that owns the device: takes batches, has them run, hands answers over, queues survivors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from prometheus_client import Gauge

from service.engine.brownout import Brownout
from service.engine.courtesy import Courtesy
from service.engine.decide import Delivery
from service.engine.launches import Launches
from service.engine.queue import Entry, SpanKey, SpanQueues, span_of
from service.engine.scheduler import Pick, WaitUntil, choose, most_urgent
from service.engine.ticket import Expired, Passed, Prediction, Ticket
from service.engine.watch import DriftWatch
from service.metrics import Metrics

STOPPING_S = 1.0
"""How often somebody who waits for the thread's end looks whether it hangs, seconds."""

BACKGROUND = 64
"""Tickets that wait in the background; more are forgotten. Each may hold an image's features."""


class Worker:
    """Runs tickets to their answers on a thread of its own.

    ``submit`` may be called from any thread; ``hand_over`` is called on the worker's thread, once per launch.

    Attributes:
        launches: What it runs them with.
    """

    def __init__(
        self,
        metrics: Metrics,
        brownout: Brownout,
        watch: DriftWatch,
        hand_over: Callable[[Delivery], None],
        *,
        max_batch: int,
        max_wait_s: float,
        objective_s: float = inf,
        arriving: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
        pick: Pick = most_urgent,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            metrics: Where launches are observed.
            brownout: Told how long images wait.
            watch: Picks images to be checked in the background.
            hand_over: Receives the tickets that a launch has finished, with their outcomes.
            max_batch: Images per launch.
            max_wait_s: Longest wait of a lone image for company, seconds.
            objective_s: Latency objective; dear launches take little of it while cheap images come.
            arriving: How many requests are admitted but not yet submitted.
            clock: Monotonic seconds.
            pick: Which of several due spans goes first.
            on_lost: Called with the reason if nothing can be computed in this process any more.
        """
        self._metrics, self._hand_over = metrics, hand_over
        self._courtesy = Courtesy(max_batch, objective_s)
        self.launches = Launches(metrics, brownout, watch, clock, on_lost, self._courtesy.is_dear)
        self._max_batch, self._max_wait_s = max_batch, max_wait_s
        self._arriving, self._clock, self._pick = arriving, clock, pick
        self._queues = SpanQueues()
        self._background = SpanQueues()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, hangs: Callable[[], bool] = lambda: False) -> None:
        """Finish what is queued, then end the thread; what waits in the background is forgotten.

        Args:
            hangs: Whether the thread is stuck in a launch: then nobody waits for it any longer.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        while self._thread.is_alive() and not hangs():
            self._thread.join(STOPPING_S)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queue new tickets and wake the device."""
        if tickets[0].finished is None:
            self._courtesy.note(tickets[0])  # all of a request have one plan
        self._queue([Entry(ticket, None, 0) for ticket in tickets])

    def _queue(self, entries: Sequence[Entry]) -> None:
        now_s = self._clock()
        with self._wake:
            for entry in entries:
                if entry.ticket.finished is None:
                    self._queues.put(entry, now_s)
                    self._depth(span_of(entry.ticket)).inc()
                elif len(self._background) < BACKGROUND:
                    self._background.put(entry, now_s)
            self._wake.notify()

    def _run(self) -> None:
        while self._turn():
            pass  # what a turn has held is free while the next one waits, models that were unloaded included

    def _turn(self) -> bool:
        """Wait for something to do, and do it; whether there was anything."""
        work = self._next_work()
        if work is None:
            return False
        work()
        return True

    def _run_batch(self, key: SpanKey, entries: list[Entry], done: Delivery) -> None:
        """Run a batch, and deliver what it has finished together with what is ``done`` already."""
        if entries:
            finished, going = self.launches.run(key, entries)
            done += finished
            self._queue(going)
        if done:
            self._finish(done)

    def _next_work(self) -> Callable[[], None] | None:
        """Block until a span is due, and take its batch, or a trial; ``None`` once stopped and empty."""
        with self._wake:
            while True:
                now_s = self._clock()
                if (unwell := self.launches.trials.take(now_s)) is not None:
                    return partial(self.launches.try_out, unwell)
                self._forget(self._queues.drop_late(now_s))  # the event loop has answered them
                decision = choose(
                    self._queues.views(partial(self._courtesy.is_dear, now_s)),
                    now_s=now_s,
                    max_batch=self._max_batch,
                    max_wait_s=self._max_wait_s,
                    arriving=self._arriving(),
                    pick=self._pick,
                )
                if not isinstance(decision, WaitUntil):
                    break
                if decision.time_s is None and self._stopping:
                    return None
                if decision.time_s is None and (views := self._background.views()) and not self._arriving():
                    key = views[-1].key
                    entries, _, _ = self._background.take(key, self._max_batch, now_s)
                    return partial(self._run_batch, key, entries, [])
                times_s = (decision.time_s, self.launches.trials.next_s)
                wake_s = min((at_s for at_s in times_s if at_s is not None), default=None)
                self._wake.wait(None if wake_s is None else wake_s - now_s)
            key = decision.key
            most = self._courtesy.most(key, now_s) if decision.dear else self._max_batch
            images = min(self._queues.waiting(key), most)
            bound_s = key.model.times.bound_s(key.span, images, now_s)
            entries, cancelled, expired = self._queues.take(key, most, now_s, bound_s)
            self._depth(key).dec(len(entries))
            self._forget(cancelled + expired)
        done: Delivery = [(ticket, ticket.answer or Expired()) for ticket in expired]
        return partial(self._run_batch, key, entries, done)

    def _forget(self, tickets: Sequence[Ticket]) -> None:
        """Enter that tickets left their queues without a launch; what they had drawn for it goes back."""
        for ticket in tickets:
            self._depth(span_of(ticket)).dec()
            if ticket.ledger is not None and ticket.position:
                plan, k = ticket.plan, ticket.position
                ticket.ledger.give_back(plan.budget or plan.allowed, plan.costs[k] - plan.costs[k - 1])

    def _finish(self, done: Delivery) -> None:
        """Hand answers over; those of the background stay here, and shadows follow who was answered."""
        for ticket, outcome in done:
            if isinstance(outcome, Prediction):
                ticket.answer = outcome
                if ticket.finished is not None:
                    ticket.finished(outcome)
        if handed := [(ticket, outcome) for ticket, outcome in done if ticket.finished is None]:
            self._hand_over(handed)
        if shadows := [
            ticket.shadow for ticket, outcome in handed if ticket.shadow and not isinstance(outcome, Passed)
        ]:
            self.submit(shadows)

    def _depth(self, key: SpanKey) -> Gauge:
        """What waits for a span of any version of that model."""
        return self._metrics.queue_depth.labels(key.model.name, str(key.span))
