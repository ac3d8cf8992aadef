"""How long launches take: a moving average for each span and size of batch."""

from __future__ import annotations

from typing import NamedTuple

from model_store.nets.staged import Span

WEIGHT = 0.1
"""Of a new measurement in its average."""


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


class StageTimes:
    """Times of one model's launches, by powers of two of the batch. The worker's thread owns it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seconds: dict[Span, dict[int, float]] = {}

    def note(self, span: Span, images: int, seconds: float) -> None:
        """Enter one launch."""
        sizes = self._seconds.setdefault(span, {})
        size = images.bit_length()
        old = sizes.get(size, seconds)
        sizes[size] = old + WEIGHT * (seconds - old)

    def expected(self, span: Span, images: int) -> float:
        """Expected seconds of a launch of ``images``: as measured at the nearest size; 0 before the first."""
        sizes = self._seconds.get(span)
        if not sizes:
            return 0.0
        size = images.bit_length()
        return sizes[min(sizes, key=lambda known: (abs(known - size), -known))]
