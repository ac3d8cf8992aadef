"""What the device does, one after the other: batches through spans, and trials of what has failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from model_store.nets.staged import Features, Span
from service.engine.batch import gather, rows
from service.engine.brownout import Brownout
from service.engine.decide import Delivery, decide
from service.engine.health import Health, NotFinite, Trials, helps_to_halve, reason_of
from service.engine.queue import Entry, SpanKey
from service.engine.ticket import Launch, LaunchError, Ticket
from service.engine.times import LaunchTimes
from service.engine.watch import DriftWatch
from service.metrics import Metrics

logger = logging.getLogger(__name__)


class Running(NamedTuple):
    """What the device is busy with.

    Attributes:
        started_s: Since when, monotonic seconds.
        model: Key of the model.
        span: That is run.
        images: In the batch.
    """

    started_s: float
    model: str
    span: Span
    images: int


class Launches:
    """Runs batches and tells what has become of their images. Belongs to the worker's thread.

    Attributes:
        running: What the device is busy with, or ``None``; any thread may look.
        trials: Models that are unwell.
    """

    def __init__(
        self,
        metrics: Metrics,
        brownout: Brownout,
        watch: DriftWatch,
        clock: Callable[[], float] = time.monotonic,
        on_lost: Callable[[str], None] = lambda _: None,
        is_dear: Callable[[float, Ticket], bool] = lambda *_: False,
    ) -> None:
        """See ``Worker``; ``is_dear``: see ``Courtesy``."""
        self._is_dear = is_dear
        self._metrics, self._brownout, self._watch, self._clock = metrics, brownout, watch, clock
        self._on_lost = on_lost
        self.running: Running | None = None
        self.trials = Trials()

    def run(self, key: SpanKey, entries: list[Entry]) -> tuple[Delivery, list[Entry]]:
        """Run one batch through its span; returns who is finished and who goes on.

        Whatever fails, nobody waits for ever. What may succeed in halves is run again in halves, down to
        single images; all else has failed for the whole batch.
        """
        health = key.model.health
        if health.broken is not None:
            return _told(entries, health.unwell())
        started_s = self._clock()
        try:
            features, table, times = self._compute(key, entries)
        except Exception as error:  # whatever the device raises: the thread must live
            halved = helps_to_halve(error, len(entries))
            failure = self._note_failure(key, len(entries), error, halved)
        else:
            return self._judged(key, entries, started_s, features, table, times)
        if not halved:
            return _told(entries, failure)
        # Not before the exception is gone: its traceback holds the batch that there was no room for.
        middle = len(entries) // 2
        done, going = self.run(key, entries[:middle])
        more_done, more_going = self.run(key, entries[middle:])
        return done + more_done, going + more_going

    def try_out(self, health: Health) -> None:
        """Look whether a model that is unwell works again."""
        span = health.broken
        if span is None:
            return
        self.running = Running(self._clock(), health.model, span, 1)
        try:
            health.try_out(span)
        except Exception as error:  # what it is has been logged when it failed under load
            self._count(health.model, reason_of(error))
            self.trials.put(health, self._clock())
            if isinstance(error, torch.AcceleratorError) and reason_of(error) == "error":
                # What fails like this again and again has taken the whole device from this process.
                self._on_lost(f"the device is lost: {str(error).splitlines()[0]}")
        else:
            logger.info("model_well", extra={"model": health.model, "span": str(span)})
        finally:
            self.running = None

    def _compute(self, key: SpanKey, entries: list[Entry]) -> tuple[Features, list[list[float]], LaunchTimes]:
        """Features for the next span, per row what ``exits.read`` says, on the host, and the time it took."""
        (model, span), clock = key, self._clock
        started_s = clock()
        self.running = Running(started_s, model.key, span, len(entries))
        try:
            batch = gather(entries, model.executor.inputs(span, len(entries)))
            gathered_s = clock()
            features, logits = model.executor.run(span, batch)
            whole = any(entry.ticket.whole for entry in entries)
            confidence, temperature = model.policy.confidence, model.policy.temperature(span.last)
            table = model.executor.read(logits, confidence, temperature, whole)
            computed_s = clock()  # not earlier: a CUDA device computes while the processor goes on
        finally:
            self.running = None
        finite = np.isfinite(table.numpy())
        if not finite.all():
            raise NotFinite(span, int((~finite.all(axis=1)).sum()))
        read = rows(table, entries, logits.shape[1] if whole else 0)
        times = LaunchTimes(gathered_s - started_s, computed_s - gathered_s, clock() - computed_s)
        return features, read, times

    def _judged(
        self,
        key: SpanKey,
        entries: list[Entry],
        started_s: float,
        features: Features,
        table: list[list[float]],
        times: LaunchTimes,
    ) -> tuple[Delivery, list[Entry]]:
        """Enter a launch that worked, and apply the exit rule."""
        try:
            ended_s = started_s + times.total_s
            key.model.health.worked(key.span)
            key.model.times.note(key.span, len(entries), times.total_s, ended_s)
            self._observe(key, entries, started_s, times)
            return decide(entries, features, table, ended_s, self._watch)
        except Exception as error:  # not again in halves: accounts have been drawn from
            return _told(entries, self._note_failure(key, len(entries), error, halved=False))

    def _note_failure(self, key: SpanKey, images: int, error: Exception, halved: bool) -> LaunchError:
        """Count and log a failed launch; what its images are told, if they are not run again."""
        model, span, reason = key.model.key, str(key.span), reason_of(error)
        self._count(model, reason)
        failed = {"model": model, "span": span, "images": images}
        if halved:
            logger.warning("launch_halved", extra={**failed, "reason": reason})
            return LaunchError(str(error))
        logger.error("launch_failed", extra=failed, exc_info=error)
        if key.model.health.failed(key.span):
            logger.error("model_unwell", extra={"model": model, "span": span, "reason": reason})
            self.trials.put(key.model.health, self._clock())
        return LaunchError(str(error))

    def _count(self, model: str, reason: str) -> None:
        self._metrics.device_failures.labels(model.partition("@")[0], reason).inc()

    def _observe(self, key: SpanKey, entries: Sequence[Entry], started_s: float, times: LaunchTimes) -> None:
        name, stage = key.model.name, str(key.span)
        self._metrics.stage_seconds.labels(name, stage).observe(times.total_s)
        self._metrics.batch_size.labels(name, stage).observe(len(entries))
        run = key.model.executor.images_run(key.span, len(entries))
        self._metrics.flops.labels(name, "executed").inc(run * key.model.span_flops(key.span))
        for ticket, _, _ in entries:
            ticket.image = None  # not needed for another try any more
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
        waits_s = [
            ticket.queue_s
            for ticket, _, _ in entries
            # Dear ones wait for the sake of cheap ones, which says nothing of the load.
            if ticket.opens and key.span.first == 0 and not self._is_dear(started_s, ticket)
        ]
        if waits_s:
            self._brownout.observe(max(waits_s), self._clock())


def _told(entries: Sequence[Entry], failure: LaunchError) -> tuple[Delivery, list[Entry]]:
    """Every image has failed."""
    return [(entry.ticket, failure) for entry in entries], []
