"""Decisions replayed image by image, with the questions that the service's worker asks, in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model_store.ledger import Ledger
from model_store.policy import Plan, Policy
from model_store.training.results import Leaver, Leavers
from model_store.training.scores import Floats, Ints, Scores

SHOWN = 6
"""Rows that are named as first and as last to leave: a glance, not a data set."""


class ImageOutcome(NamedTuple):
    """What became of one image."""

    label_index: int
    """Predicted class."""
    exit: int
    """Where it left, 1-based."""
    flops: int
    """What it spent."""


@dataclass(frozen=True, eq=False)
class Replay:
    """Outcomes of all rows under one plan: class, exit (0-based) and FLOPs of each, int64 (N,)."""

    classes: Ints
    exits: Ints
    flops: Ints


def replay(plan: Plan, scores: Scores, policy: Policy) -> Replay:
    """Decide the rows one after the other, in their order, with a new account where the plan has a budget.

    Args:
        plan: As ``make_plan`` gives it.
        scores: Logits along ``plan.exits``.
        policy: Names the confidence measure.
    """
    position = _positions(plan, scores.confidence(policy.confidence, policy.temperatures))
    row = np.arange(len(scores))
    exits, costs = np.array(plan.exits, dtype=np.int64), np.array(plan.costs, dtype=np.int64)
    return Replay(scores.predictions[position, row], exits[position], costs[position])


def leavers(plan: Plan, scores: Scores, done: Replay, policy: Policy, count: int = SHOWN) -> Leavers:
    """Who is surest at the earliest exit where any row left, and who is least sure at the deepest one.

    Args:
        plan: As ``make_plan`` gives it.
        scores: Logits along ``plan.exits``.
        done: Their replay under ``plan``.
        policy: Names the confidence measure.
        count: Rows at each end; fewer where fewer left there. Ties go to the earlier row.
    """
    confidence = scores.confidence(policy.confidence, policy.temperatures)

    def name(row: int) -> Leaver:
        k = int(done.exits[row])
        sure = float(confidence[plan.exits.index(k), row])
        label, predicted = int(scores.labels[row]), int(done.classes[row])
        return Leaver(row=row, exit=k + 1, confidence=sure, label=label, predicted=predicted)

    first = [name(row) for row in np.flatnonzero(done.exits == done.exits.min()).tolist()]
    last = [name(row) for row in np.flatnonzero(done.exits == done.exits.max()).tolist()]
    return Leavers(
        budget=plan.allowed,
        first=tuple(sorted(first, key=lambda leaver: -leaver.confidence)[:count]),
        last=tuple(sorted(last, key=lambda leaver: leaver.confidence)[:count]),
    )


def _positions(plan: Plan, confidence: Floats) -> Ints:
    """Position among the plan's exits where each row leaves, (N,), for confidences (M, N)."""
    ledger = None if plan.budget is None else Ledger()
    positions = [_leave(plan, ledger, column) for column in confidence.T.tolist()]
    return np.array(positions, dtype=np.int64)


def _leave(plan: Plan, ledger: Ledger | None, confidence: Sequence[float]) -> int:
    """One image: the same questions in the same order as the service's worker asks them."""
    budget = plan.budget or plan.allowed
    if ledger is not None:
        ledger.arrive(budget, plan.costs[0])
    for position in range(len(plan.exits) - 1):
        thresholds = plan.thresholds if ledger is None else ledger.thresholds(plan)
        if confidence[position] >= thresholds[position]:
            return position
        step = plan.costs[position + 1] - plan.costs[position]
        if ledger is not None and not ledger.draw(budget, step):
            return position
    return len(plan.exits) - 1
