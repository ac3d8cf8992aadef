"""How long things take: an estimate that what is still to come will hardly exceed.

Source: Jacobson 1988, "Congestion Avoidance and Control": a moving mean plus four moving mean deviations,
which TCP waits for an acknowledgement.
"""

from __future__ import annotations

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


class Estimate:
    """Mean and deviation of one duration, moving."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        """Know nothing yet."""
        self._mean = self._deviation = 0.0

    def note(self, seconds: float) -> None:
        """Enter one measurement."""
        if self._mean == 0.0:
            self._mean, self._deviation = seconds, seconds / 2
            return
        error = seconds - self._mean
        self._mean += MEAN_WEIGHT * error
        self._deviation += DEVIATION_WEIGHT * (abs(error) - self._deviation)

    @property
    def bound_s(self) -> float:
        """Seconds that the next one hardly exceeds; 0 before the first."""
        return self._mean + DEVIATIONS * self._deviation


class StageTimes:
    """Times of one model's launches, by span and powers of two of the batch. The worker's thread owns it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._estimates: dict[Span, dict[int, Estimate]] = {}

    def note(self, span: Span, images: int, seconds: float) -> None:
        """Enter one launch."""
        self._estimates.setdefault(span, {}).setdefault(images.bit_length(), Estimate()).note(seconds)

    def bound_s(self, span: Span, images: int) -> float:
        """Seconds that a launch of ``images`` hardly exceeds, by the nearest size; 0 before the first."""
        sizes = self._estimates.get(span)
        if not sizes:
            return 0.0
        size = images.bit_length()
        return sizes[min(sizes, key=lambda known: (abs(known - size), -known))].bound_s
