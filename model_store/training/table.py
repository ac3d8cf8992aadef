"""From thresholds per price to the entries of a policy: dense, rising, and no longer than the curve rises."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from model_store.flops import StageFlops
from model_store.policy import PolicyEntry, PolicySegment
from model_store.training.scores import Floats
from model_store.training.stopping import HIGHEST, Answers, Outcome, Stopping, apply, rising_fit

ENTRY_STEP = 0.01
"""Largest growth of the mean from one entry to the next, as far as rows allow."""

RANK_STEP = 0.002
"""Share of rows that may pass a threshold between candidates for entries."""

LEVEL = 0.0005
"""A rise of the smoothed accuracy by less, 0.05 points, is within the noise of 5,000 rows and does not
count."""


def densify(answers: Answers, exits: Sequence[int], thresholds: Floats, step: float) -> Floats:
    """Add thresholds in between, so that no more than a share ``step`` of rows passes a threshold per entry.

    Serving interpolates thresholds linearly between entries; in between, thresholds move along the ranking of
    the rows' confidences, so that the means move evenly however unevenly confidences are spread.

    Args:
        answers: Rows whose ranking counts.
        exits: M consulted exits, 0-based.
        thresholds: (P, M - 1), columns rising.
        step: Largest move of any threshold, as a share of the rows.

    Returns:
        Thresholds (P', M - 1), columns rising, the first row all 0.
    """
    levels = [np.concatenate([[0.0], np.sort(answers.confidence[k]), [HIGHEST]]) for k in exits[:-1]]
    scale = np.arange(len(answers) + 2) / (len(answers) + 1)
    start = np.zeros((1, thresholds.shape[1]))
    if not levels:
        return start
    known = np.vstack([start, thresholds])
    ranks = np.stack(
        [np.interp(column, level, scale) for column, level in zip(known.T, levels, strict=True)], axis=1
    )
    ranks = np.maximum.accumulate(ranks, axis=0)
    dense = [ranks[:1]]
    for lower, upper in pairwise(ranks):
        pieces = int(np.ceil(np.abs(upper - lower).max() / step))
        if pieces:
            dense.append(lower + (upper - lower) * (np.arange(1, pieces + 1) / pieces)[:, None])
    columns = np.vstack(dense).T
    found = [np.interp(column, scale, level) for column, level in zip(columns, levels, strict=True)]
    return np.maximum.accumulate(np.stack(found, axis=1), axis=0)  # rounding may fall by 1e-16


def smoothed(mean_flops: Floats, accuracy: Floats) -> Floats:
    """Best fit to a curve by one that first rises, then falls; points weigh as the FLOPs around them.

    Curves may fall at their end: the deepest exits of a network are not always its best.
    """
    weight = np.maximum(np.gradient(mean_flops), 1.0) if len(mean_flops) > 1 else np.ones(1)
    best, least = accuracy, np.inf
    for top in range(len(accuracy)):
        rise, fall = slice(0, top + 1), slice(top + 1, None)
        fit = np.concatenate(
            [rising_fit(accuracy[rise], weight[rise]), -rising_fit(-accuracy[fall], weight[fall])]
        )
        error = float(weight @ (fit - accuracy) ** 2)
        if error < least:
            best, least = fit, error
    return best


def rise_end(mean_flops: Floats, accuracy: Floats) -> int:
    """Index of the last point that is worth its FLOPs.

    That is where the smoothed curve comes within ``LEVEL`` of its top. A rising fit pools a stretch exactly
    if its later part is on average no better than its earlier part; what lies beyond buys nothing but noise.
    """
    fit = smoothed(mean_flops, accuracy)
    return int(np.argmax(fit >= fit.max() - LEVEL))


def build_segment(
    calibration: Answers,
    check: Answers,
    stages: Sequence[StageFlops],
    prices: Floats,
    exits: Sequence[int],
    start: float,
    stop: float,
) -> PolicySegment:
    """Tabulate one set of exits between two means.

    Args:
        calibration: Rows that thresholds are fitted to.
        check: Rows that accuracies are measured on; means are measured on both.
        stages: FLOPs of each stage.
        prices: Accuracy per FLOP, falling.
        exits: Consulted exits, 0-based.
        start: Mean FLOPs from which this set is used; 0 for the first set.
        stop: Mean FLOPs from which the next set is used; infinite for the last, which ends with its rise.
    """
    fitted = Stopping(calibration, stages, prices).thresholds(exits)
    # At the lowest price all gains on the calibration rows are spent; the check rows may know of more.
    everyone = np.full((1, fitted.shape[1]), HIGHEST)
    thresholds = densify(calibration, exits, np.vstack([fitted, everyone]), RANK_STEP)
    outcomes = [apply(rows, exits, thresholds, stages) for rows in (calibration, check)]
    mean, shares, accuracy = _over_all(outcomes, [len(calibration), len(check)])
    last = len(mean) - 1 if np.isfinite(stop) else rise_end(mean, accuracy)
    inside = [i for i in range(last + 1) if start <= mean[i] < stop]
    return PolicySegment(
        exits=tuple(k + 1 for k in exits),
        entries=tuple(
            PolicyEntry(
                mean_flops=float(mean[i]),
                accuracy=float(outcomes[1].correct[i].mean()),
                thresholds=tuple(thresholds[i].tolist()),
                shares=tuple(shares[i].tolist()),
            )
            for i in _thin(mean, inside or [last])
        ),
    )


def _over_all(outcomes: Sequence[Outcome], counts: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """Mean FLOPs (P,), shares (P, M) and accuracy (P,) over all held-out rows."""
    mean = np.average([outcome.mean_flops for outcome in outcomes], axis=0, weights=counts)
    shares = np.average([outcome.shares for outcome in outcomes], axis=0, weights=counts)
    accuracy = np.average([outcome.correct.mean(axis=1) for outcome in outcomes], axis=0, weights=counts)
    return mean, shares, accuracy


def _thin(mean_flops: Floats, candidates: Sequence[int]) -> list[int]:
    """The first and last candidate and as few between as keep steps within ``ENTRY_STEP``."""
    kept = [candidates[0]]
    for here, after in pairwise(candidates[1:]):
        if (
            mean_flops[after] > mean_flops[kept[-1]] * (1 + ENTRY_STEP)
            and mean_flops[here] > mean_flops[kept[-1]]
        ):
            kept.append(here)
    if mean_flops[candidates[-1]] > mean_flops[kept[-1]]:
        kept.append(candidates[-1])
    return kept
