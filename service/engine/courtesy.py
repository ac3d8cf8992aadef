"""How many images go at once: fewer of dear ones while cheap ones come, which would wait for them."""

from __future__ import annotations

from math import inf

from service.engine.queue import SpanKey
from service.engine.ticket import Ticket

LONGEST = 0.01
"""Share of the latency objective that a launch of dear images is to take while cheap ones come."""

DEAR = 2.0
"""Allowed FLOPs, in those of the cheapest image of late, from which on an image is dear."""

LATELY_S = 1.0
"""Time for which a cheap image is remembered."""


class Courtesy:
    """Sizes of launches. Any thread may tell of images; the worker's thread asks.

    A launch cannot be interrupted: who comes meanwhile waits, and then for the event loop, which has an
    answer to write and a request to read for each image of the launch. Short launches shorten both, and cost
    some throughput; so they are short only while there is somebody to be spared.
    """

    def __init__(self, max_batch: int, objective_s: float) -> None:
        """Allow ``max_batch`` images in a launch; ``objective_s``: latency objective, ``inf`` for none."""
        self._max_batch, self._longest_s = max_batch, LONGEST * objective_s
        self._cheapest = (0.0, -inf)  # FLOPs, when; one object, since several threads write it

    def note(self, ticket: Ticket) -> None:
        """Take notice of an image that has come."""
        flops, now_s = ticket.model.allowed_flops(ticket.plan), ticket.arrival_s
        cheapest, noted_s = self._cheapest
        if flops <= cheapest or now_s - noted_s > LATELY_S:
            self._cheapest = (flops, now_s)

    def most(self, key: SpanKey, first: Ticket, now_s: float) -> int:
        """Images that the next launch may take.

        Args:
            key: The span and its model.
            first: Who will be in it.
            now_s: Monotonic seconds.
        """
        cheapest, noted_s = self._cheapest
        dear = first.model.allowed_flops(first.plan) > DEAR * cheapest
        image_s = key.model.times.image_s(key.span, now_s)
        if not dear or now_s - noted_s > LATELY_S or not image_s:
            return self._max_batch
        images = max(1, int(min(self._max_batch, self._longest_s / image_s)))
        run: int = key.model.executor.images_run(key.span, images)  # so many take no longer
        return min(self._max_batch, run)
