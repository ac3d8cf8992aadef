"""The one thread that owns the device: takes batches, runs spans, evaluates exits, sends survivors on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from model_store import exits
from model_store.nets.staged import Features, Span
from service.engine.batch import gather, prediction
from service.engine.loaded import LoadedModel
from service.engine.queue import Entry, SpanKey, SpanQueues, span_of
from service.engine.scheduler import WaitUntil, choose
from service.engine.ticket import Expired, LaunchError, Outcome, Ticket
from service.metrics import Metrics

logger = logging.getLogger(__name__)

Delivery = list[tuple[Ticket, Outcome]]


class Worker:
    """Runs tickets to their answers on a thread of its own.

    ``submit`` may be called from any thread; ``hand_over`` is called on the worker's thread, once per launch.
    """

    def __init__(
        self,
        models: Mapping[str, LoadedModel],
        metrics: Metrics,
        hand_over: Callable[[Delivery], None],
        *,
        max_batch: int,
        max_wait_s: float,
        arriving: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            models: Loaded models by key.
            metrics: Where launches are observed.
            hand_over: Receives the tickets that a launch has finished, with their outcomes.
            max_batch: Images per launch.
            max_wait_s: Longest wait of a lone image for company, seconds.
            arriving: How many requests are admitted but not yet submitted.
            clock: Monotonic seconds.
        """
        self._models, self._metrics, self._hand_over = models, metrics, hand_over
        self._max_batch, self._max_wait_s = max_batch, max_wait_s
        self._arriving, self._clock = arriving, clock
        self._queues = SpanQueues()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queue new tickets and wake the device."""
        now_s = self._clock()
        with self._wake:
            for ticket in tickets:
                self._queues.put(Entry(ticket, None, 0), now_s)
            self._wake.notify()

    def _run(self) -> None:
        while (taken := self._next_batch()) is not None:
            key, entries, done = taken
            if entries:
                done += self._launch(key, entries)
            if done:
                self._hand_over(done)

    def _next_batch(self) -> tuple[SpanKey, list[Entry], Delivery] | None:
        """Block until a span is due and take its batch; ``None`` once stopped and empty."""
        with self._wake:
            while True:
                now_s = self._clock()
                decision = choose(
                    self._queues.views(),
                    now_s=now_s,
                    max_batch=self._max_batch,
                    max_wait_s=self._max_wait_s,
                    arriving=self._arriving(),
                )
                if not isinstance(decision, WaitUntil):
                    break
                if decision.time_s is None and self._stopping:
                    return None
                self._wake.wait(None if decision.time_s is None else decision.time_s - now_s)
            key = decision.key
            entries, _, expired = self._queues.take(key, self._max_batch, now_s)
            self._show_depth(key)
        return key, entries, [(ticket, ticket.answer or Expired()) for ticket in expired]

    def _launch(self, key: SpanKey, entries: list[Entry]) -> Delivery:
        """Run one batch through its span; returns the tickets that are finished."""
        model, span = self._models[key.model], key.span
        started_s = self._clock()
        try:
            features, table = self._compute(model, span, entries)
            seconds = self._clock() - started_s
            model.note_seconds(span, seconds)
            self._observe(key, len(entries), seconds)
            for ticket, _, _ in entries:
                ticket.queue_s += started_s - ticket.enqueued_s
                ticket.compute_s += seconds
            return self._decide(model, entries, features, table, started_s + seconds)
        except Exception as error:  # whatever it is, the thread must live and nobody must wait for ever
            logger.exception(
                "launch_failed", extra={"model": key.model, "span": str(span), "images": len(entries)}
            )
            failure = LaunchError(str(error))
            return [(entry.ticket, failure) for entry in entries]

    def _compute(
        self, model: LoadedModel, span: Span, entries: list[Entry]
    ) -> tuple[Features, list[list[float]]]:
        """Features for the next span and, per row, what ``exits.read`` says, on the host."""
        features, logits = model.executor.run(span, gather(entries))
        # One copy for the whole batch: an .item() per image would stall the device B times.
        table = exits.read(logits, model.policy.confidence, model.policy.temperature(span.last)).cpu()
        if not table.isfinite().all():
            raise LaunchError(f"span {span} returned values that are not finite")
        rows: list[list[float]] = table.tolist()
        return features, rows

    def _decide(
        self,
        model: LoadedModel,
        entries: list[Entry],
        features: Features,
        table: list[list[float]],
        now_s: float,
    ) -> Delivery:
        """Apply the exit rule to every row; survivors go to their next queue."""
        done: Delivery = []
        kept: list[int] = []
        # The least certain first: where an account runs dry, they are the ones whose continuing pays.
        for row in sorted(range(len(entries)), key=lambda i: table[i][0]):
            ticket = entries[row].ticket
            if not self._stays(model, ticket, table[row][0], now_s):
                done.append((ticket, prediction(ticket, table[row])))
                continue
            kept.append(row)
            if ticket.group is not None or ticket.deadline_s is not None:
                ticket.answer = prediction(ticket, table[row])
        if kept:
            kept.sort()
            index = torch.tensor(kept)
            batch = tuple(x[index.to(x.device)] for x in features)
            self._send_on(
                [Entry(entries[row].ticket, batch, i) for i, row in enumerate(kept)],
                [table[row][0] for row in kept],
                done,
                now_s,
            )
        return done

    def _stays(self, model: LoadedModel, ticket: Ticket, confidence: float, now_s: float) -> bool:
        """Whether the image goes on, or waits for its group's decision."""
        plan, position, ledger = ticket.plan, ticket.position, ticket.ledger
        if ledger is not None and position == 0:
            ledger.arrive(plan.budget or plan.allowed, plan.costs[0])
        if position + 1 == len(plan.exits):
            return False
        if ticket.group is not None:  # it must be met, else the group would wait for it
            return True
        if ticket.deadline_s is not None:
            following = Span(plan.exits[position] + 1, plan.exits[position + 1])
            if now_s + model.expected_seconds(following) > ticket.deadline_s:
                return False
        thresholds = plan.thresholds if ledger is None else ledger.thresholds(plan)
        if confidence >= thresholds[position]:
            return False
        step = plan.costs[position + 1] - plan.costs[position]
        return ledger is None or ledger.draw(plan.budget or plan.allowed, step)

    def _send_on(
        self, survivors: list[Entry], confidences: list[float], done: Delivery, now_s: float
    ) -> None:
        """Queue the survivors for their next spans; groups decide once their last image is here."""
        going: list[Entry] = []
        for entry, confidence in zip(survivors, confidences, strict=True):
            group = entry.ticket.group
            if group is None:
                going.append(entry)
            elif (met := group.meet(confidence, entry)) is not None:
                done += [(left.ticket, left.ticket.answer or Expired()) for left in met[0]]
                going += met[1]
        with self._wake:
            for entry in going:
                entry.ticket.position += 1
                self._queues.put(entry, now_s)
            for key in {span_of(entry.ticket) for entry in going}:
                self._show_depth(key)

    def _observe(self, key: SpanKey, images: int, seconds: float) -> None:
        name, stage = self._models[key.model].name, str(key.span)
        self._metrics.stage_seconds.labels(name, stage).observe(seconds)
        self._metrics.batch_size.labels(name, stage).observe(images)
        self._metrics.flops.labels(name, "executed").inc(
            images * self._models[key.model].span_flops(key.span)
        )

    def _show_depth(self, key: SpanKey) -> None:
        name = self._models[key.model].name
        self._metrics.queue_depth.labels(name, str(key.span)).set(self._queues.waiting(key))
