"""How long things take: an estimate that what is still to come will hardly exceed.

Source: Jacobson 1988, "Congestion Avoidance and Control": a moving mean plus four moving mean deviations,
which TCP waits for an acknowledgement.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from model_store.nets.staged import Span

MEAN_WEIGHT, DEVIATION_WEIGHT, DEVIATIONS = 1 / 8, 1 / 4, 4
"""Of a new measurement in the mean and in the deviation; deviations above the mean that are allowed for."""


class LaunchTimes(NamedTuple):
    """Where the time of a launch went, or of several together; seconds.

    Attributes:
        input_s: Gathering the batch: images, or the features of survivors from several batches.
        infer_s: Blocks and head, until what the head says is on the host.
        output_s: From there to a row for each image.
    """

    input_s: float
    infer_s: float
    output_s: float

    @property
    def total_s(self) -> float:
        """The whole launch."""
        return self.input_s + self.infer_s + self.output_s

    def plus(self, other: LaunchTimes) -> LaunchTimes:
        """Both together."""
        return LaunchTimes(
            self.input_s + other.input_s, self.infer_s + other.infer_s, self.output_s + other.output_s
        )


NO_TIME = LaunchTimes(0.0, 0.0, 0.0)
"""Of an image that no launch has seen yet."""


FORGET_S = 1.0
"""Age from which a measurement says nothing any more. Else one slow launch could keep all images from an
exit for ever: where nobody goes, nothing is measured."""


class Estimate:
    """Mean and deviation of one duration, moving. Moments are monotonic seconds."""

    __slots__ = ("_deviation", "_mean", "noted_s")

    def __init__(self) -> None:
        """Know nothing yet."""
        self._mean = self._deviation = 0.0
        self.noted_s = -inf

    def note(self, seconds: float, now_s: float) -> None:
        """Enter one measurement."""
        known, self.noted_s = self.knows(now_s), now_s
        if not known:
            self._mean, self._deviation = seconds, seconds / 2
            return
        error = seconds - self._mean
        self._mean += MEAN_WEIGHT * error
        self._deviation += DEVIATION_WEIGHT * (abs(error) - self._deviation)

    def knows(self, now_s: float) -> bool:
        """Whether anything was measured of late."""
        return now_s - self.noted_s < FORGET_S

    def mean_s(self, now_s: float) -> float:
        """Seconds that the next one will likely take; 0 where nothing is known."""
        return self._mean if self.knows(now_s) else 0.0

    def bound_s(self, now_s: float) -> float:
        """Seconds that the next one hardly exceeds; 0 where nothing is known."""
        return self._mean + DEVIATIONS * self._deviation if self.knows(now_s) else 0.0


class StageTimes:
    """Times of one model's launches, by span and powers of two of the batch. The worker's thread owns it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._estimates: dict[Span, dict[int, Estimate]] = {}
        self._images: dict[Span, Estimate] = {}

    def note(self, span: Span, images: int, seconds: float, now_s: float) -> None:
        """Enter one launch."""
        self._estimates.setdefault(span, {}).setdefault(images.bit_length(), Estimate()).note(seconds, now_s)
        self._images.setdefault(span, Estimate()).note(seconds / images, now_s)

    def image_s(self, span: Span, now_s: float) -> float:
        """Seconds that a launch takes for each of its images; 0 where nothing is known."""
        estimate = self._images.get(span)
        return 0.0 if estimate is None else estimate.mean_s(now_s)

    def bound_s(self, span: Span, images: int, now_s: float) -> float:
        """Seconds that a launch of ``images`` hardly exceeds, by the nearest size; 0 where none is known."""
        sizes = self._estimates.get(span, {})
        known = [size for size, estimate in sizes.items() if estimate.knows(now_s)]
        if not known:
            return 0.0
        size = images.bit_length()
        return sizes[min(known, key=lambda other: (abs(other - size), -other))].bound_s(now_s)
