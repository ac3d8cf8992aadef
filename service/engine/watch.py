"""Watches for drift without labels: a share of early leavers goes on to the last exit, and who agrees counts.

A policy lets an image leave where going on would not change the answer often enough to pay. Whether that
still holds for today's images shows where the last exit says something else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from model_store.nets.staged import Features
from model_store.policy import Plan, path_flops
from service.engine.loaded import LoadedModel
from service.engine.queue import Entry
from service.engine.sample import Sample
from service.engine.ticket import Prediction, Ticket
from service.metrics import Metrics

WINDOW = 1000
"""Re-checks of one exit whose agreement is shown: drift of the last days must not drown in a year's mean."""


class DriftWatch:
    """Makes tickets for the background out of images that left early. Belongs to the worker's thread."""

    def __init__(self, share: float, metrics: Metrics) -> None:
        """Re-check ``share`` (0..1) of the early leavers; 0 watches nothing."""
        self._sample = Sample(share)
        self._metrics = metrics
        self._agreed: dict[tuple[str, int], tuple[object, deque[bool]]] = {}

    def entry(self, ticket: Ticket, answer: Prediction, features: Features, row: int) -> Entry | None:
        """The rest of the way of an image that leaves with ``answer``, if it is one of the sample.

        Args:
            ticket: Of the image, at the exit that it leaves by because it is sure enough there.
            answer: Of that exit.
            features: What the launch returned for its batch.
            row: The image's row there.
        """
        model, k = ticket.model, ticket.plan.exits[ticket.position]
        early = ticket.finished is None and ticket.position + 1 < len(ticket.plan.exits)
        if not early or not self._sample.picks():
            return None
        last = len(model.stages) - 1
        exits = (k, last)
        plan = Plan(exits, path_flops(model.stages, exits), (inf, -inf), None, 0.0, None)
        kept = tuple(x[row : row + 1].clone() for x in features)

        def compare(full: Prediction) -> None:
            self._enter(model, k + 1, full.classes[0] == answer.classes[0])

        check = Ticket(model, plan, None, ticket.arrival_s, None, finished=compare)
        check.position = 1
        return Entry(check, kept, 0)

    def _enter(self, model: LoadedModel, exit_: int, agrees: bool) -> None:
        place, policy = (model.name, exit_), (model.key, model.policy.id)
        if self._agreed.get(place, (None,))[0] != policy:  # others are no measure for this one
            self._agreed[place] = (policy, deque(maxlen=WINDOW))
        _, window = self._agreed[place]
        window.append(agrees)
        metrics, labels = self._metrics, (model.name, str(exit_))
        metrics.exit_agreement.labels(*labels).set(_share(window))
        metrics.rechecks.labels(*labels).inc()
        metrics.rechecks_agreed.labels(*labels).inc(agrees)


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
