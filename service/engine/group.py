"""Several images of one request under one exact sum: who continues is decided for all of them together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import ceil

from model_store.policy import Plan
from service.engine.queue import Entry


class Group:
    """The images of one request with a mean budget; their FLOPs never sum to more than ``total``.

    All live images meet at each consulted exit. There the least certain of them continue, as many as the
    rest of the total pays for. Belongs to the worker's thread.
    """

    def __init__(self, plan: Plan, size: int, total: float) -> None:
        """Start with ``size`` images on their way to the first consulted exit of ``plan``."""
        self._plan = plan
        self._position = 0
        self._expected = size
        self._credit = total - size * plan.costs[0]
        self._met: list[tuple[float, Entry]] = []

    def meet(self, confidence: float, entry: Entry) -> tuple[list[Entry], list[Entry]] | None:
        """Enter an image that has reached the exit which the group is heading for.

        Returns:
            ``None`` while others are on their way; then (those who leave, those who continue).
        """
        self._met.append((confidence, entry))
        if len(self._met) < self._expected:
            return None
        met, self._met = self._met, []
        if self._position + 1 == len(self._plan.exits):
            return [entry for _, entry in met], []
        order = sorted(range(len(met)), key=lambda i: met[i][0])  # stable: ties by position
        going = set(order[: continuing([met[i][0] for i in order], self._plan, self._position, self._credit)])
        step = self._plan.costs[self._position + 1] - self._plan.costs[self._position]
        self._credit -= len(going) * step
        self._expected = len(going)
        self._position += 1
        leaving = [entry for i, (_, entry) in enumerate(met) if i not in going]
        return leaving, [entry for i, (_, entry) in enumerate(met) if i in going]


def continuing(confidences: Sequence[float], plan: Plan, position: int, credit: float) -> int:
    """How many of the least certain images go on to the next consulted exit.

    The policy's entries are tried from the cheapest on: each predicts how many images would continue here
    (those below its threshold) and, from the calibrated exit shares, what each of them would spend on its
    whole further way. The richest entry whose prediction the credit pays for decides. At the last decision
    there is nothing left to save
    for: as many continue as the credit pays for, up to those that the richest entry wants.

    Args:
        confidences: Of the images at this exit, rising.
        plan: Their plan; without a segment nobody continues.
        position: Index of this exit in ``plan.exits``.
        credit: FLOPs that may still be spent.

    Ranking: with one price for all, the gain of continuing falls as the confidence rises, so the order by
    confidence is the order by gain.
    """
    if plan.segment is None:
        return 0
    entries = plan.segment.entries
    affordable = int(max(0.0, credit) // (plan.costs[position + 1] - plan.costs[position]))
    useful = bisect_left(confidences, entries[-1].thresholds[position])
    # Fewer than these could not use the credit up even if all of them went to the last exit.
    needed = ceil(max(0.0, credit) / (plan.costs[-1] - plan.costs[position]))
    wanted = 0
    for entry in entries:
        count = bisect_left(confidences, entry.thresholds[position])
        if count * _further_flops(entry.shares, plan, position) > credit:
            break
        wanted = count
    return min(max(wanted, needed), useful, affordable)


def _further_flops(shares: Sequence[float], plan: Plan, position: int) -> float:
    """Mean FLOPs that an image continuing at ``position`` spends from there on, by the calibrated shares."""
    reach = list(accumulate(reversed(shares)))[::-1]  # share of images that reach each exit
    if reach[position + 1] <= 0:
        return float(plan.costs[position + 1] - plan.costs[position])
    steps = range(position + 1, len(plan.exits))
    return sum(reach[k] / reach[position + 1] * (plan.costs[k] - plan.costs[k - 1]) for k in steps)
