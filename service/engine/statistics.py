"""What a model has done since it was loaded, in the figures of the Open Inference Protocol's statistics.

Two writers, each with fields of its own, so that nobody waits for a lock: the worker's thread notes launches,
the event loop what became of the images. Background work, which answers nobody, is not counted.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from service.engine.times import LaunchTimes

_NANO = 10**9


class Computed(NamedTuple):
    """Launches, or images in launches, and their time all together by the parts of ``LaunchTimes``."""

    number: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0

    @property
    def total_ns(self) -> int:
        """All parts."""
        return self.input_ns + self.infer_ns + self.output_ns

    def plus(self, times: LaunchTimes) -> Computed:
        """With one more."""
        added = (round(seconds * _NANO) for seconds in times)
        return Computed(self.number + 1, *(old + new for old, new in zip(self[1:], added, strict=True)))


class ModelStatistics:
    """Counts images and launches of one model. Images, not requests: each of several counts.

    Attributes:
        answered: Images with an answer. An image is in as many launches as its way through the network has
            spans, and spends the time of each together with its batch.
        waited_ns: Time from their submission to the answer of their request that these images were not in
            launches: waiting for one, for the request's other images, for the event loop.
        failed: Images without an answer: the deadline passed, the device failed, or the client left.
        failed_ns: Time from the submission of these to their end.
        last_ms: When the last image was answered, milliseconds since 1970; 0 before the first.
    """

    def __init__(self) -> None:
        """Start from zero."""
        self.answered = Computed()
        self.waited_ns = self.failed = self.failed_ns = self.last_ms = 0
        self._launches: dict[int, Computed] = {}

    def note_answer(self, seconds: float, times: LaunchTimes) -> None:
        """Count an image that was answered ``seconds`` after its submission. For the event loop."""
        before_ns, self.answered = self.answered.total_ns, self.answered.plus(times)
        computed_ns = self.answered.total_ns - before_ns
        self.waited_ns += max(0, round(seconds * _NANO) - computed_ns)
        self.last_ms = time.time_ns() // 10**6

    def note_failure(self, seconds: float) -> None:
        """Count an image that has no answer ``seconds`` after its submission. For the event loop."""
        self.failed += 1
        self.failed_ns += round(seconds * _NANO)

    def note_launch(self, images: int, times: LaunchTimes) -> None:
        """Count a launch of ``images``. For the worker's thread."""
        # Replaced as a whole: who reads meanwhile sees all of this launch or nothing.
        self._launches[images] = self._launches.get(images, Computed()).plus(times)

    def launches(self) -> list[tuple[int, Computed]]:
        """Launches by the number of images in them, rising."""
        return sorted(self._launches.copy().items())
