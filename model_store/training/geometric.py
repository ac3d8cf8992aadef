"""The budgeted-batch method of the MSDNet code, as the baseline that our thresholds are compared with.

Source: Huang et al. 2018, arXiv:1703.09844, section 5.2 (exit shares proportional to q^k), with the threshold
search of its published evaluation code: T_k is the confidence of the last row that may still leave at exit k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_store.exits import Confidence
from model_store.flops import StageFlops
from model_store.policy import Policy, path_flops
from model_store.training.report import Baseline, BaselinePoint, ComparedPoint, standard_error
from model_store.training.scores import Floats, Scores
from model_store.training.selection import Rows32, at_budgets
from model_store.training.stopping import Answers, Outcome, apply

RATIOS: Floats = np.geomspace(0.05, 1.95, 160)
"""Values of q: the range of the published code (0.05 ... 1.95 in steps of 0.05), more finely."""

NOBODY = 2.0
"""Threshold that no confidence reaches."""


COMPARED = 32
"""Means at which a policy and the family are compared, in equal ratios over the family's range."""


def geometric_thresholds(answers: Answers, exits: Sequence[int]) -> Floats:
    """Thresholds (Q, M - 1) of the M consulted ``exits`` (0-based) for every q of ``RATIOS``.

    Args:
        answers: Calibration rows; the published code uses the maximum softmax probability.
        exits: Consulted exits in depth order; all of them in the published code.
    """
    confidence = answers.confidence[list(exits)]
    return np.array([_one(confidence, q) for q in RATIOS]).reshape(len(RATIOS), len(exits) - 1)


def _one(confidence: Floats, q: float) -> list[float]:
    """Thresholds for one q and confidences (M, N)."""
    shares = q ** np.arange(1, len(confidence) + 1)
    leavers = np.floor(shares / shares.sum() * confidence.shape[1]).astype(int)
    staying = np.ones(confidence.shape[1], dtype=bool)
    thresholds = []
    for here, wanted in zip(confidence[:-1], leavers[:-1], strict=True):
        surest = np.sort(here[staying])[::-1]
        threshold = float(surest[wanted - 1]) if 0 < wanted <= len(surest) else NOBODY
        thresholds.append(threshold)
        staying &= here < threshold
    return thresholds


def compare(
    name: str,
    policy: Policy,
    held_out: tuple[Scores, Scores],
    measure: Confidence,
    exits: Sequence[int],
    stages: Sequence[StageFlops],
    costs: Sequence[int] = (),
) -> Baseline:
    """Fit the family to the calibration rows and put it beside ``policy`` on the budget-check rows.

    Args:
        name: Of this variant of the family.
        policy: Ours.
        held_out: All exits on the calibration rows and on the budget-check rows.
        measure: The family's confidence.
        exits: Exits that the family consults, 0-based.
        stages: FLOPs of each stage.
        costs: FLOPs of leaving at each of ``exits``; those of the path if not given.
    """
    costs = tuple(costs or path_flops(stages, exits))
    rows = [Answers.of(scores, measure) for scores in held_out]
    thresholds = geometric_thresholds(rows[0], exits)
    outcomes = [apply(answers, exits, thresholds, stages, costs) for answers in rows]
    mean = np.average([outcome.mean_flops for outcome in outcomes], axis=0, weights=[len(a) for a in rows])
    order = np.argsort(mean, kind="stable")
    theirs = Outcome(mean[order], outcomes[1].correct[order], outcomes[1].shares[order])
    return Baseline(
        name=name,
        exits=tuple(k + 1 for k in exits),
        costs=costs,
        measure=measure,
        curve=tuple(
            BaselinePoint(
                mean_flops=float(mean[i]), accuracy=float(right), thresholds=tuple(thresholds[i].tolist())
            )
            for i, right in zip(order, theirs.correct.mean(axis=1), strict=True)
        ),
        compared=_beside(policy, held_out[1], theirs, stages),
    )


def _beside(
    policy: Policy, check: Scores, theirs: Outcome, stages: Sequence[StageFlops]
) -> tuple[ComparedPoint, ...]:
    """Both curves at the same means, differences paired by row."""
    budgets = np.geomspace(theirs.mean_flops[0], theirs.mean_flops[-1], COMPARED)
    answers = Answers.of(check, policy.confidence, policy.temperatures)
    ours = policy_rows(policy, answers, stages, budgets)
    other = at_budgets(theirs.mean_flops, theirs, budgets)
    return tuple(
        ComparedPoint(
            mean_flops=float(budget),
            ours=float(mine.mean(dtype=np.float64)),
            theirs=float(its.mean(dtype=np.float64)),
            standard_error=standard_error(mine - its),
        )
        for budget, mine, its in zip(budgets, ours, other, strict=True)
    )


def policy_rows(policy: Policy, answers: Answers, stages: Sequence[StageFlops], budgets: Floats) -> Rows32:
    """Answers of a policy at realised mean ``budgets``, float32 (G, N); NaN below its range."""
    rows = np.full((len(budgets), len(answers)), np.nan, dtype=np.float32)
    for segment in policy.segments:
        thresholds = np.array([entry.thresholds for entry in segment.entries])
        outcome = apply(answers, [k - 1 for k in segment.exits], thresholds, stages)
        here = budgets >= segment.costs[0]
        rows[here] = at_budgets(np.array(segment.costs), outcome, budgets[here])
    return rows
