"""The one thread that owns the device: takes batches, runs spans, evaluates exits, sends survivors on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from prometheus_client import Gauge

from model_store.nets.staged import Features
from service.engine.batch import gather, rows
from service.engine.brownout import Brownout
from service.engine.decide import Delivery, decide
from service.engine.queue import Entry, SpanKey, SpanQueues, span_of
from service.engine.scheduler import Pick, WaitUntil, choose, most_urgent
from service.engine.ticket import Expired, Launch, LaunchError, Passed, Prediction, Ticket
from service.engine.times import LaunchTimes
from service.engine.watch import DriftWatch
from service.metrics import Metrics

logger = logging.getLogger(__name__)

BACKGROUND = 64
"""Tickets that wait in the background; more are forgotten. Each may hold an image's features."""


class Worker:
    """Runs tickets to their answers on a thread of its own.

    ``submit`` may be called from any thread; ``hand_over`` is called on the worker's thread, once per launch.
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
        arriving: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
        pick: Pick = most_urgent,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            metrics: Where launches are observed.
            brownout: Told how long images wait.
            watch: Picks images to be checked in the background.
            hand_over: Receives the tickets that a launch has finished, with their outcomes.
            max_batch: Images per launch.
            max_wait_s: Longest wait of a lone image for company, seconds.
            arriving: How many requests are admitted but not yet submitted.
            clock: Monotonic seconds.
            pick: Which of several due spans goes first.
        """
        self._metrics, self._brownout, self._watch = metrics, brownout, watch
        self._hand_over = hand_over
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

    def stop(self) -> None:
        """Finish what is queued, then end the thread; what waits in the background is forgotten."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queue new tickets and wake the device."""
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
        """Wait for a batch and run it; whether there was one."""
        taken = self._next_batch()
        if taken is None:
            return False
        key, entries, done = taken
        if entries:
            finished, going = self._launch(key, entries)
            done += finished
            self._queue(going)
        if done:
            self._finish(done)
        return True

    def _next_batch(self) -> tuple[SpanKey, list[Entry], Delivery] | None:
        """Block until a span is due and take its batch; ``None`` once stopped and empty."""
        with self._wake:
            while True:
                now_s = self._clock()
                self._forget(self._queues.drop_late(now_s))  # the event loop has answered them
                decision = choose(
                    self._queues.views(),
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
                    return key, self._background.take(key, self._max_batch, now_s)[0], []
                self._wake.wait(None if decision.time_s is None else decision.time_s - now_s)
            key = decision.key
            images = min(self._queues.waiting(key), self._max_batch)
            bound_s = key.model.times.bound_s(key.span, images, now_s)
            entries, cancelled, expired = self._queues.take(key, self._max_batch, now_s, bound_s)
            self._depth(key).dec(len(entries))
            self._forget(cancelled + expired)
        return key, entries, [(ticket, ticket.answer or Expired()) for ticket in expired]

    def _forget(self, tickets: Sequence[Ticket]) -> None:
        """Enter that tickets left their queues without a launch; what they had drawn for it goes back."""
        for ticket in tickets:
            self._depth(span_of(ticket)).dec()
            if ticket.ledger is not None and ticket.position:
                plan, k = ticket.plan, ticket.position
                ticket.ledger.give_back(plan.budget or plan.allowed, plan.costs[k] - plan.costs[k - 1])

    def _launch(self, key: SpanKey, entries: list[Entry]) -> tuple[Delivery, list[Entry]]:
        """Run one batch through its span; returns who is finished and who goes on."""
        started_s = self._clock()
        try:
            features, table, times = self._compute(key, entries)
            ended_s = started_s + times.total_s
            key.model.times.note(key.span, len(entries), times.total_s, ended_s)
            self._observe(key, entries, started_s, times)
            return decide(entries, features, table, ended_s, self._watch)
        except Exception as error:  # whatever it is, the thread must live and nobody must wait for ever
            logger.exception(
                "launch_failed", extra={"model": key.model.key, "span": str(key.span), "images": len(entries)}
            )
            failure = LaunchError(str(error))
            return [(entry.ticket, failure) for entry in entries], []

    def _compute(self, key: SpanKey, entries: list[Entry]) -> tuple[Features, list[list[float]], LaunchTimes]:
        """Features for the next span, per row what ``exits.read`` says, on the host, and the time it took."""
        (model, span), clock = key, self._clock
        started_s = clock()
        batch = gather(entries, model.executor.inputs(span, len(entries)))
        gathered_s = clock()
        features, logits = model.executor.run(span, batch)
        whole = any(entry.ticket.whole for entry in entries)
        confidence, temperature = model.policy.confidence, model.policy.temperature(span.last)
        table = model.executor.read(logits, confidence, temperature, whole)
        computed_s = clock()  # not earlier: a CUDA device computes while the processor goes on
        if not np.isfinite(table.numpy()).all():
            raise LaunchError(f"span {span} returned values that are not finite")
        read = rows(table, entries, logits.shape[1] if whole else 0)
        times = LaunchTimes(gathered_s - started_s, computed_s - gathered_s, clock() - computed_s)
        return features, read, times

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

    def _observe(self, key: SpanKey, entries: Sequence[Entry], started_s: float, times: LaunchTimes) -> None:
        name, stage = key.model.name, str(key.span)
        self._metrics.stage_seconds.labels(name, stage).observe(times.total_s)
        self._metrics.batch_size.labels(name, stage).observe(len(entries))
        run = key.model.executor.images_run(key.span, len(entries))
        self._metrics.flops.labels(name, "executed").inc(run * key.model.span_flops(key.span))
        for ticket, _, _ in entries:
            if ticket.trail is not None:
                launch = Launch(name, stage, len(entries), ticket.enqueued_s, started_s, times)
                ticket.trail.append(launch)
            ticket.queue_s += started_s - ticket.enqueued_s
            ticket.times = ticket.times.plus(times)
        if entries[0].ticket.finished is not None:  # background and foreground are never in one batch
            return
        key.model.statistics.note_launch(len(entries), times)
        longest_s = started_s - min(ticket.enqueued_s for ticket, _, _ in entries)
        self._metrics.stage_queue_seconds.labels(name, stage).observe(longest_s)
        waits_s = [ticket.queue_s for ticket, _, _ in entries if ticket.opens and key.span.first == 0]
        if waits_s:
            self._brownout.observe(max(waits_s), self._clock())

    def _depth(self, key: SpanKey) -> Gauge:
        """What waits for a span of any version of that model."""
        return self._metrics.queue_depth.labels(key.model.name, str(key.span))
