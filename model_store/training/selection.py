"""Which exits to consult: a search of all sets, robust against the noise of a few thousand rows.

Every set's curve is cross-fitted: thresholds from one half of the held-out rows are judged on the other half,
both ways round. The envelope over all sets is honest in the same manner: which set is best at a budget is
read from one half, how good it is from the other. Otherwise the best of 127 noisy curves would look better
than any set can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from model_store.flops import StageFlops, direct_flops
from model_store.training.scores import Floats
from model_store.training.stopping import Answers, Outcome, Stopping, apply, rising_fit
from model_store.training.table import densify

PRICES: Floats = np.geomspace(1e-6, 1e-13, 90)
"""Prices, accuracy per FLOP, for networks of some 10 M FLOPs; scaled to others by ``prices_for``."""

BUDGETS = 48
"""Budgets, in equal ratios from the first exit's cost to the last one's."""

TOLERANCE = 0.0005
"""Accuracy, averaged over the budgets, that fewer segments or fewer exits may cost: 0.05 points."""

Rows32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SetCurves:
    """Cross-fitted curves of all sets of exits.

    Attributes:
        sets: Consulted exits, 0-based.
        budgets: float64 (G,), FLOPs.
        rows: float32 (S, G, N), 1 where set s answers row n correctly at budget g, fractions between two
            entries; NaN where the set's first exit costs more than the budget.
        half: Rows before this one were judged by thresholds from the others, and the other way round.
    """

    sets: tuple[tuple[int, ...], ...]
    budgets: Floats
    rows: Rows32
    half: int

    def accuracy(self, fold: slice = slice(None)) -> Floats:
        """Mean over the rows of ``fold``, (S, G); minus infinity where a set is not affordable."""
        means = self.rows[:, :, fold].mean(axis=2, dtype=np.float64)
        return np.where(np.isnan(means), -np.inf, means)

    @property
    def folds(self) -> tuple[slice, slice]:
        """The two halves."""
        return slice(0, self.half), slice(self.half, None)

    @property
    def rise(self) -> int:
        """Number of budgets up to where the best of all sets stops rising by more than ``TOLERANCE``."""
        best = rising_fit(self.accuracy().max(axis=0), np.ones(len(self.budgets)))
        return int(np.argmax(best >= best[-1] - TOLERANCE)) + 1

    def cut(self, count: int) -> SetCurves:
        """The first ``count`` budgets.

        Where curves no longer rise all sets are alike; averaging that stretch hides what differs before it.
        """
        return replace(self, budgets=self.budgets[:count], rows=self.rows[:, :count])

    def envelope(self) -> Rows32:
        """Honest envelope, float32 (G, N): per budget the set that is best on the other half."""
        grid = np.arange(len(self.budgets))
        parts = []
        for judged, chosen_on in (self.folds, self.folds[::-1]):
            best = self.accuracy(chosen_on).argmax(axis=0)
            parts.append(self.rows[best, grid][:, judged])
        return np.concatenate(parts, axis=1)


def all_sets(exits: int) -> tuple[tuple[int, ...], ...]:
    """Every non-empty set of 0-based exits."""
    return tuple(chosen for size in range(1, exits + 1) for chosen in combinations(range(exits), size))


def prices_for(stages: Sequence[StageFlops]) -> Floats:
    """Prices (P,), falling: from what nobody would pay to practically nothing."""
    return PRICES * (5e7 / direct_flops(tuple(stages))[-1])


def cross_fit(
    calibration: Answers,
    check: Answers,
    stages: Sequence[StageFlops],
    on_set: Callable[[], None] = lambda: None,
) -> SetCurves:
    """Fit on each half of the held-out rows, judge on the other, for all sets of exits.

    Args:
        calibration: One half.
        check: The other half.
        stages: FLOPs of each stage.
        on_set: Called after each set and half.

    Returns:
        Curves over all budgets; cut them to where they rise before averaging.
    """
    sets = all_sets(len(stages))
    direct = direct_flops(tuple(stages))
    budgets = np.geomspace(direct[0] * 1.01, direct[-1], BUDGETS)
    count = len(calibration) + len(check)
    rows = np.full((len(sets), BUDGETS, count), np.nan, dtype=np.float32)
    half = len(calibration)
    for judged, there, fitted in (
        (slice(0, half), calibration, check),
        (slice(half, None), check, calibration),
    ):
        stopping = Stopping(fitted, stages, prices_for(stages))
        for s, exits in enumerate(sets):
            thresholds = densify(fitted, exits, stopping.thresholds(exits), step=0.02)
            costs = apply(fitted, exits, thresholds, stages).mean_flops
            outcome = apply(there, exits, thresholds, stages)
            mean = (costs * len(fitted) + outcome.mean_flops * len(there)) / count
            rows[s, :, judged] = at_budgets(mean, outcome, budgets)
            on_set()
    return SetCurves(sets, budgets, rows, half)


def at_budgets(mean_flops: Floats, outcome: Outcome, budgets: Floats) -> Rows32:
    """Interpolate a table's answers at mean ``budgets``, float32 (G, N).

    Below its range there are none, NaN; above it the table's last row holds.
    """
    above = np.searchsorted(mean_flops, budgets, side="right")
    lower = np.clip(above - 1, 0, len(mean_flops) - 1)
    upper = np.clip(above, 0, len(mean_flops) - 1)
    gap = mean_flops[upper] - mean_flops[lower]
    way = np.where(gap > 0, (budgets - mean_flops[lower]) / np.where(gap > 0, gap, 1), 0.0)
    way = way.astype(np.float32)[:, None]
    rows = (1 - way) * outcome.correct[lower] + way * outcome.correct[upper]
    rows[above == 0] = np.nan
    return np.asarray(rows, dtype=np.float32)


@dataclass(frozen=True)
class Choice:
    """Sets that a policy consults: ``exits[i]`` (0-based) from a mean of ``starts[i]`` FLOPs on."""

    exits: tuple[tuple[int, ...], ...]
    starts: tuple[float, ...]
    accuracy: float
    """Cross-fitted accuracy, averaged over the budgets."""


def best_single(curves: SetCurves, fold: slice = slice(None)) -> Choice:
    """Of the sets that start at the first exit the smallest within ``TOLERANCE`` of the best."""
    means = curves.accuracy(fold).mean(axis=1)
    able = [s for s, exits in enumerate(curves.sets) if exits[0] == 0]
    bar = max(means[able]) - TOLERANCE
    chosen = min((s for s in able if means[s] >= bar), key=lambda s: (len(curves.sets[s]), -means[s]))
    return Choice((curves.sets[chosen],), (float(curves.budgets[0]),), float(means[chosen]))


def best_pair(curves: SetCurves, fold: slice = slice(None)) -> Choice:
    """Two sets and the budget where the second takes over, fewest exits within ``TOLERANCE`` of the best."""
    accuracy = curves.accuracy(fold)
    able = [s for s, exits in enumerate(curves.sets) if exits[0] == 0]
    zero = np.zeros((len(accuracy), 1))
    before = np.concatenate([zero, np.cumsum(accuracy, axis=1)], axis=1)[able]
    after = np.concatenate([np.cumsum(accuracy[:, ::-1], axis=1)[:, ::-1], zero], axis=1)
    both = before[:, None, 1:-1] + after[None, :, 1:-1]  # (able, S, G - 1): the second set from budget g on
    switch = both.argmax(axis=2)
    means = both.max(axis=2) / len(curves.budgets)
    sizes = np.array([len(exits) for exits in curves.sets])
    total = sizes[able][:, None] + sizes[None, :]
    near = means >= means.max() - TOLERANCE
    fewest = near & (total == total[near].min())
    first, second = np.unravel_index(np.where(fewest, means, -np.inf).argmax(), means.shape)
    start = curves.budgets[int(switch[first, second]) + 1]
    pair = (curves.sets[able[int(first)]], curves.sets[int(second)])
    return Choice(pair, (float(curves.budgets[0]), float(start)), float(means[first, second]))


def judge(curves: SetCurves, choice: Choice, fold: slice = slice(None)) -> float:
    """Accuracy of ``choice`` on the rows of ``fold``, averaged over the budgets."""
    return float(choice_rows(curves, choice)[:, fold].mean(dtype=np.float64))


def choice_rows(curves: SetCurves, choice: Choice) -> Rows32:
    """Cross-fitted answers of ``choice``, float32 (G, N)."""
    segment = np.searchsorted(choice.starts, curves.budgets, side="right") - 1
    index = np.array([curves.sets.index(exits) for exits in choice.exits])[np.maximum(segment, 0)]
    rows: Rows32 = curves.rows[index, np.arange(len(curves.budgets))]
    return rows


def crossed(curves: SetCurves, choose: Callable[[SetCurves, slice], Choice]) -> float:
    """Accuracy of what ``choose`` picks on one half, judged on the other, both ways round."""
    first, second = curves.folds
    judged = judge(curves, choose(curves, first), second), judge(curves, choose(curves, second), first)
    weights = len(range(*second.indices(curves.rows.shape[2]))), curves.half
    return float(np.average(judged, weights=weights))


def choose_segments(curves: SetCurves) -> Choice:
    """One set if it stays within ``TOLERANCE`` of the honest envelope or a second gains no more than that."""
    single = best_single(curves)
    loss = float(curves.envelope().mean(dtype=np.float64)) - single.accuracy
    if loss <= TOLERANCE or crossed(curves, best_pair) - crossed(curves, best_single) <= TOLERANCE:
        return single
    return best_pair(curves)
