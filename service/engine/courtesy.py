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

    def is_dear(self, now_s: float, ticket: Ticket) -> bool:
        """Whether cheaper images than that of ``ticket`` come these days, which are to be spared."""
        cheapest, noted_s = self._cheapest
        flops = ticket.model.allowed_flops(ticket.plan)
        return flops > DEAR * cheapest and now_s - noted_s <= LATELY_S

    def most(self, key: SpanKey, now_s: float) -> int:
        """Images that the next launch of a span may take if they are dear."""
        model, span = key
        image_s = model.times.image_s(span, now_s)
        if not image_s:
            return self._max_batch
        images = max(1, int(min(self._max_batch, self._longest_s / image_s)))
        run: int = model.executor.images_run(span, images)  # so many take no longer
        return min(self._max_batch, run)
