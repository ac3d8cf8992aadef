"""Optimal stopping with one price per FLOP: thresholds for any set of consulted exits, and what they do.

Backwards from the last consulted exit: the value of leaving at exit k with confidence c is a_k(c), the
probability of being right there; the value of going on is what the next consulted exit is worth on average to
images of that confidence, less the price of getting there. Both are isotonic regressions. Each price gives
one threshold per exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sklearn
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression

from model_store.exits import Confidence
from model_store.flops import StageFlops
from model_store.policy import path_flops
from model_store.training.scores import Bools, Floats, Ints, Scores

HIGHEST = 1.0
"""Threshold at which only images leave that cannot be surer; no measure of ``exits`` exceeds it."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What stopping looks at: how sure every exit is on every row, and whether it is right.

    Attributes:
        confidence: float64 (K, N), in one measure.
        correct: bool (K, N).
    """

    confidence: Floats
    correct: Bools

    @classmethod
    def of(cls, scores: Scores, measure: Confidence, temperatures: Sequence[float] | None = None) -> Answers:
        """Read ``scores`` with the confidence ``measure``, at these temperatures of all exits."""
        return cls(scores.confidence(measure, temperatures), scores.correct)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.confidence[0])


def rising_fit(values: Floats, weights: Floats) -> Floats:
    """Isotonic regression: the rising sequence with the least weighted squared distance to ``values``."""
    if not len(values):
        return values
    # Many thousand short fits: checking arguments would take longer than fitting.
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        fit: Floats = isotonic_regression(values, sample_weight=weights)
    return fit


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Rows of one exit grouped by equal confidence, least sure group first."""

    order: Ints
    starts: Ints
    sizes: Ints
    levels: Floats

    @classmethod
    def of(cls, confidence: Floats) -> _Ranking:
        order = np.argsort(confidence, kind="stable")
        levels, starts, sizes = np.unique(confidence[order], return_index=True, return_counts=True)
        return cls(order, starts, sizes, levels)

    def means(self, values: Floats) -> Floats:
        """Mean of ``values`` (..., N) within each group, (..., groups)."""
        sums: Floats = np.add.reduceat(values[..., self.order], self.starts, axis=-1)
        return sums / self.sizes

    def isotonic(self, means: Floats) -> Floats:
        """Best rising fit to the group means (groups,)."""
        return rising_fit(means, self.sizes.astype(np.float64))

    def spread(self, levels: Floats) -> Floats:
        """Values per group (..., groups) back to rows (..., N)."""
        rows: Floats = np.empty((*levels.shape[:-1], len(self.order)))
        rows[..., self.order] = np.repeat(levels, self.sizes, axis=-1)
        return rows

    @cached_property
    def cuts(self) -> Floats:
        """Threshold under which the first j groups fall, j = 0 ... groups: half way between neighbours."""
        between = (self.levels[1:] + self.levels[:-1]) / 2
        return np.concatenate([[0.0], between, [HIGHEST]])


class Stopping:
    """Thresholds for any set of consulted exits; what sets share is computed once."""

    def __init__(self, answers: Answers, stages: Sequence[StageFlops], prices: Floats) -> None:
        """Fit the probability of being right at each exit.

        Args:
            answers: Calibration rows.
            stages: FLOPs of each stage.
            prices: Accuracy that one FLOP must buy, falling, (P,).
        """
        self._stages, self._prices = tuple(stages), prices
        self._rankings = [_Ranking.of(confidence) for confidence in answers.confidence]
        self._right = [
            ranking.isotonic(ranking.means((correct + logistic(confidence, correct)) / 2))
            for ranking, confidence, correct in zip(
                self._rankings, answers.confidence, answers.correct, strict=True
            )
        ]
        self._solved: dict[tuple[int, ...], tuple[Floats, Floats]] = {}

    def thresholds(self, exits: Sequence[int]) -> Floats:
        """Thresholds (P, M - 1) of the M consulted ``exits``, 0-based, one row per price; all columns rise.

        Source: budgets.md, calibration, steps 3 and 5.
        """
        columns = [self._solve(tuple(exits[j:]))[1] for j in range(len(exits) - 1)]
        return np.stack(columns, axis=1) if columns else np.empty((len(self._prices), 0))

    def _solve(self, exits: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Value of standing at the first of ``exits`` on every row, (P, N), and the threshold there, (P,)."""
        if exits not in self._solved:
            self._solved[exits] = self._step(exits) if len(exits) > 1 else self._last(exits[0])
        return self._solved[exits]

    def _last(self, k: int) -> tuple[Floats, Floats]:
        value = self._rankings[k].spread(self._right[k])
        return np.broadcast_to(value, (len(self._prices), len(value))), np.zeros(len(self._prices))

    def _step(self, exits: tuple[int, ...]) -> tuple[Floats, Floats]:
        here, there = exits[:2]
        ranking, leave = self._rankings[here], self._right[here]
        ahead = ranking.means(self._solve(exits[1:])[0])
        step = sum(stage.block for stage in self._stages[here + 1 : there + 1]) + self._stages[there].head
        go_on = np.stack([ranking.isotonic(means) for means in ahead]) - self._prices[:, None] * step
        # The j least sure groups go on: the best j maximises what going on gains over all of them. Ties take
        # the smallest j, the cheapest; so thresholds can only rise as the price falls.
        gains = np.cumsum((go_on - leave) * ranking.sizes, axis=1)
        best = np.argmax(np.concatenate([np.zeros((len(gains), 1)), gains], axis=1), axis=1)
        return ranking.spread(np.maximum(go_on, leave)), ranking.cuts[best]


def logistic(confidence: Floats, correct: Bools) -> Floats:
    """Probability of being right by logistic regression on the log-odds of the confidence, (N,).

    The isotonic regression is fitted to the mean of this and of what was seen: that halves its noise, and
    where all rows were right the probability stays below 1, so that the surest rows still differ. Cross-
    fitted curves gain 0.00 to 0.04 points averaged over the sets of exits (cifar10-fusion, epochs 5, 8, 11).
    """
    if correct.all() or not correct.any():
        return correct.astype(np.float64)
    odds = np.log((confidence + 1e-6) / (1 - confidence + 1e-6))[:, None]
    # The default solver starts threads for its tiny matrices and waits for them on a busy machine.
    model = LogisticRegression(C=100, solver="newton-cholesky").fit(odds, correct)
    right: Floats = model.predict_proba(odds)[:, 1]
    return right


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a table of thresholds leads to on some rows.

    Attributes:
        mean_flops: float64 (P,).
        correct: bool (P, N), the answer of the exit where the row leaves.
        shares: float64 (P, M), rows that leave at each consulted exit.
    """

    mean_flops: Floats
    correct: Bools
    shares: Floats


def leave_at(answers: Answers, exits: Sequence[int], thresholds: Floats) -> Ints:
    """Position among ``exits`` where each row leaves, (P, N), for thresholds (P, M - 1)."""
    position = np.full((len(thresholds), len(answers)), len(exits) - 1, dtype=np.int64)
    for j in range(len(exits) - 2, -1, -1):
        position[answers.confidence[exits[j]] >= thresholds[:, j : j + 1]] = j
    return position


def apply(
    answers: Answers,
    exits: Sequence[int],
    thresholds: Floats,
    stages: Sequence[StageFlops],
    costs: Sequence[int] = (),
) -> Outcome:
    """Let ``answers`` leave by ``thresholds``.

    Args:
        answers: Rows to decide.
        exits: M consulted exits, 0-based.
        thresholds: (P, M - 1).
        stages: FLOPs of each stage.
        costs: FLOPs of leaving at each consulted exit; those of the path if not given.
    """
    spent = np.array(costs or path_flops(stages, exits), dtype=np.float64)
    position = leave_at(answers, exits, thresholds)
    shares = np.stack([(position == j).mean(axis=1) for j in range(len(exits))], axis=1)
    right = answers.correct[list(exits)]
    correct = np.take_along_axis(right, position, axis=0)
    return Outcome(shares @ spent, correct, shares)
