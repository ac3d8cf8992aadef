"""How long the launches of a model take by span and batch size: measured once, asked by interpolation.

Measured are launches of the service's own worker: gathering the batch, the executor, what an exit says of
each image, brought to the host. Whatever worker or executor learn to do faster is in the next measurement.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from math import inf
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from pydantic import BaseModel, Field

from model_store.hardware import hardware
from model_store.nets.staged import Span
from model_store.policy import Plan, path_flops
from service.engine.brownout import Brownout
from service.engine.decide import Delivery
from service.engine.loaded import LoadedModel
from service.engine.ticket import Image, Launch, LaunchError, Ticket
from service.engine.watch import DriftWatch
from service.engine.worker import Worker
from service.metrics import Metrics

BATCHES = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are measured where nobody names others."""


class LaunchTime(BaseModel, frozen=True, extra="forbid"):
    """Time of a launch of one span with one number of images, seconds."""

    median_s: float = Field(gt=0)
    low_s: float = Field(gt=0, description="First decile.")
    high_s: float = Field(gt=0, description="Ninth decile.")


class SpanTimes(BaseModel, frozen=True, extra="forbid"):
    """Times of one model's launches on one machine."""

    model: str = Field(description="name@version")
    device: str = Field(description="CPU, cuda:0")
    precision: str = Field(description="bf16, f32")
    threads: int = Field(ge=0, description="Processor threads of a launch.")
    machine: str
    rounds: int = Field(ge=1, description="Launches of each span with each number of images.")
    padded: bool = Field(False, description="Launches are filled up to the next of the measured sizes.")
    spans: dict[str, dict[int, LaunchTime]] = Field(
        description='By span as people see it, "1" or "2-3", then by images in the launch.'
    )

    def seconds(self, span: Span, images: int) -> float:
        """Median time of a launch, by straight lines between the measured sizes where none is filled up.

        Beyond the largest the last line goes on; below the smallest a launch takes as long as that one.

        Raises:
            KeyError: The span was not measured.
        """
        launches = self.spans[str(span)]
        sizes = sorted(launches)
        images = self.images_run(span, images)
        if images <= sizes[0]:
            return launches[sizes[0]].median_s
        if len(sizes) == 1:
            return launches[sizes[0]].median_s * images / sizes[0]
        right = min(bisect_left(sizes, images), len(sizes) - 1)
        low, high = sizes[right - 1], sizes[right]
        before_s, after_s = launches[low].median_s, launches[high].median_s
        if images == high:  # exact, whatever rounding does to the line
            return after_s
        return before_s + (after_s - before_s) * (images - low) / (high - low)

    def images_run(self, span: Span, images: int) -> int:
        """Images that a launch of ``images`` computes, those that fill it up included.

        Raises:
            KeyError: The span was not measured.
        """
        sizes = [size for size in self.spans[str(span)] if size >= images]
        return min(sizes) if self.padded and sizes else images

    def write(self, path: Path) -> None:
        """Keep as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> SpanTimes:
        """From the JSON of ``write``.

        Raises:
            ValidationError: It is something else.
        """
        return cls.model_validate_json(path.read_bytes())


class Launcher:
    """Has the service's worker run launches of a chosen span with a chosen number of images."""

    def __init__(
        self, model: LoadedModel, images: Sequence[Image], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start a worker for ``model``, which gets ``images`` in turn; ``clock`` tells monotonic seconds."""
        self._model, self._clock = model, clock
        self._images = cycle(images)
        self._delivered: SimpleQueue[Delivery] = SimpleQueue()
        metrics = Metrics()
        self._worker = Worker(
            metrics,
            Brownout(1.0, enabled=False),
            DriftWatch(0.0, metrics),
            self._delivered.put,
            max_batch=2**31,
            max_wait_s=0.0,
            clock=clock,
        )
        self._worker.start()

    def close(self) -> None:
        """End the worker."""
        self._worker.stop()

    def launch(self, span: Span, images: int) -> Launch:
        """Run ``images`` through ``span``, first through all that is before it; gives the launch of ``span``.

        Raises:
            LaunchError: The executor failed.
        """
        trail: list[Launch] = []
        plan = _way(self._model, span)
        arrival_s = self._clock()
        tickets = [
            Ticket(self._model, plan, image, arrival_s, None) for image in islice(self._images, images)
        ]
        tickets[0].trail = trail
        self._worker.submit(tickets)
        delivery = self._delivered.get()
        failures = [outcome for _, outcome in delivery if isinstance(outcome, LaunchError)]
        if failures:
            raise failures[0]
        return trail[-1]


def measure_spans(
    model: LoadedModel,
    spans: Sequence[Span],
    batches: Sequence[int] = BATCHES,
    rounds: int = 15,
    report: Callable[[int, int], None] = lambda done, total: None,
    *,
    images: Sequence[Image] = (),
    clock: Callable[[], float] = time.monotonic,
) -> SpanTimes:
    """Time launches in turns, so that whatever else the machine does hits all of them alike.

    Args:
        model: Loaded.
        spans: That are timed, after one launch each to warm up.
        batches: Images in a launch.
        rounds: Launches of each span with each number of images; at least 2.
        report: Called with the rounds done and of how many.
        images: Go into the batches in turn; without them random ones.
        clock: Monotonic seconds.

    Raises:
        LaunchError: The executor failed.
    """
    launcher = Launcher(model, images or random_images(model, max(batches)), clock)
    seconds: dict[tuple[Span, int], list[float]] = {(span, size): [] for span in spans for size in batches}
    try:
        for done in range(rounds + 1):
            for (span, size), took in seconds.items():
                took.append(launcher.launch(span, size).times.total_s)
            report(done, rounds)
    finally:
        launcher.close()
    sizes = range(1, max(batches))
    device, _, precision = model.executor.device.rpartition(" ")
    return SpanTimes(
        model=model.key,
        device=device,
        precision=precision,
        threads=model.executor.threads,
        machine=hardware(),
        rounds=rounds,
        padded=any(model.executor.images_run(span, size) > size for span in spans for size in sizes),
        spans={str(span): {size: launch_time(seconds[span, size][1:]) for size in batches} for span in spans},
    )


def parse_span(text: str) -> Span:
    """The span that people see as ``text``, "1" or "2-3"."""
    first, _, last = text.partition("-")
    return Span(int(first) - 1, int(last or first) - 1)


def random_images(model: LoadedModel, count: int) -> list[Image]:
    """Noise of the size that ``model`` takes, the same each time."""
    spec = model.manifest.input
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, spec.height, spec.width), dtype=np.uint8)
    return list(pixels)


def launch_time(seconds: Sequence[float]) -> LaunchTime:
    """Median and outer deciles of at least two times, neither beyond what was measured."""
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return LaunchTime(median_s=statistics.median(seconds), low_s=tenths[0], high_s=tenths[-1])


def _way(model: LoadedModel, span: Span) -> Plan:
    """Everybody consults the exit before ``span``, goes on, and leaves at its end."""
    exits = (span.last,) if span.first == 0 else (span.first - 1, span.last)
    thresholds = (-inf,) if span.first == 0 else (inf, -inf)
    return Plan(exits, path_flops(model.stages, exits), thresholds, None, 0.0, None)
