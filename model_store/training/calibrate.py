"""Calibration: from the logits of held-out rows to a policy, and an account of how good it is.

Thresholds are fitted to the calibration rows; accuracies are measured on the budget-check rows; mean FLOPs,
which need no labels, on both. Which exits to consult and which confidence to use is read from both halves,
cross-fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import get_args

import numpy as np

from model_store.exits import Confidence
from model_store.flops import StageFlops, dense_flops
from model_store.policy import AIM, Policy, PolicySegment
from model_store.training.ensembles import compare_ensembles
from model_store.training.geometric import compare
from model_store.training.report import (
    CalibrationReport,
    CurvePoint,
    MeasureResult,
    calibration_errors,
    standard_error,
)
from model_store.training.scores import Floats, Scores
from model_store.training.selection import (
    Choice,
    SetCurves,
    all_sets,
    best_single,
    choice_rows,
    choose_segments,
    cross_fit,
    prices_for,
)
from model_store.training.stopping import Answers
from model_store.training.table import build_segment, smoothed
from model_store.training.temperature import fit_temperatures, useful_temperatures

MEASURES: tuple[Confidence, ...] = get_args(Confidence)
"""Measures to compare; on a tie the earlier one, which is cheaper to compute."""

SURE = 2.0
"""Standard errors from which a difference between measures is not taken for noise."""

NEAR_BEST = 0.001
"""Accuracy that the default budget may cost: 0.1 points."""

OnStep = Callable[[int, int], None]
"""Told the steps done and the steps in all."""


@dataclass(frozen=True)
class Calibration:
    """A policy and the account of it."""

    policy: Policy
    report: CalibrationReport


def _ignore(done: int, steps: int) -> None:
    """Report nothing."""


def calibrate(
    calibration: Scores, check: Scores, stages: Sequence[StageFlops], on_step: OnStep = _ignore
) -> Calibration:
    """Find the exits, the confidence and the thresholds for every budget.

    Args:
        calibration: All exits on the calibration rows; thresholds are fitted to these.
        check: All exits on the budget-check rows.
        stages: FLOPs of each stage.
        on_step: Called with (steps done, steps in all), some hundred times.

    Raises:
        ValueError: The scores do not hold all exits.

    Source: budgets.md, calibration, steps 1 to 5.
    """
    for scores in (calibration, check):
        if scores.exits != tuple(range(len(stages))):
            raise ValueError(
                f"calibration needs all {len(stages)} exits, {scores.source} holds {scores.exits}"
            )
    temperatures = useful_temperatures(calibration)
    measure, curves, results = _compare_measures(calibration, check, stages, temperatures, on_step)
    choice = choose_segments(curves)
    rows = Answers.of(calibration, measure, temperatures), Answers.of(check, measure, temperatures)
    segments = tuple(
        build_segment(*rows, stages, prices_for(stages), exits, start, stop)
        for exits, (start, stop) in zip(choice.exits, pairwise([0.0, *choice.starts[1:], inf]), strict=True)
    )
    policy = Policy(
        confidence=measure,
        default_flops=_default_flops(segments),
        segments=segments,
        temperatures=temperatures,
    )
    return Calibration(policy, _report(policy, calibration, check, stages, curves, choice, results))


def _compare_measures(
    calibration: Scores,
    check: Scores,
    stages: Sequence[StageFlops],
    temperatures: Sequence[float] | None,
    on_step: OnStep,
) -> tuple[Confidence, SetCurves, tuple[MeasureResult, ...]]:
    """The best measure by the cross-fitted curve of its best single set; on a tie the earlier one."""
    steps = len(MEASURES) * 2 * len(all_sets(len(stages)))
    done = 0

    def on_set() -> None:
        nonlocal done
        done += 1
        on_step(done, steps)

    fitted: dict[Confidence, SetCurves] = {}
    for measure in MEASURES:
        rows = Answers.of(calibration, measure, temperatures), Answers.of(check, measure, temperatures)
        fitted[measure] = cross_fit(*rows, stages, on_set)
    rise = max(curves.rise for curves in fitted.values())
    found: dict[Confidence, tuple[SetCurves, Choice, Floats]] = {}
    for measure, every in fitted.items():
        curves = every.cut(rise)
        choice = best_single(curves)
        found[measure] = curves, choice, choice_rows(curves, choice).mean(axis=0, dtype=np.float64)
    best = max(MEASURES, key=lambda measure: found[measure][2].mean())
    results = []
    for measure in MEASURES:
        behind = found[best][2] - found[measure][2]
        results.append(
            MeasureResult(
                measure=measure,
                exits=tuple(k + 1 for k in found[measure][1].exits[0]),
                accuracy=found[measure][1].accuracy,
                behind=float(behind.mean()),
                standard_error=standard_error(behind),
            )
        )
    chosen = next(result.measure for result in results if result.behind <= SURE * result.standard_error)
    return chosen, found[chosen][0], tuple(results)


def _default_flops(segments: Sequence[PolicySegment]) -> float:
    """The cheapest budget whose accuracy is within ``NEAR_BEST`` of the best, smoothed over the entries."""
    points = [(segment, entry) for segment in segments for entry in segment.entries]
    mean = np.array([entry.mean_flops for _, entry in points])
    accuracy = smoothed(mean, np.array([entry.accuracy for _, entry in points]))
    segment, entry = points[int(np.argmax(accuracy >= accuracy.max() - NEAR_BEST))]
    # Thresholds aim below the budget where images differ in cost, see ``policy.make_plan``.
    return entry.mean_flops / AIM if len(segment.exits) > 1 else entry.mean_flops


def _report(
    policy: Policy,
    calibration: Scores,
    check: Scores,
    stages: Sequence[StageFlops],
    curves: SetCurves,
    choice: Choice,
    results: tuple[MeasureResult, ...],
) -> CalibrationReport:
    held_out = (calibration, check)
    dense, temperatures = dense_flops(tuple(stages)), fit_temperatures(calibration)
    every, longest = tuple(range(len(stages))), max(choice.exits, key=len)
    reached = float(choice_rows(curves, choice).mean(dtype=np.float64))
    everything = float(curves.accuracy()[curves.sets.index(every)].mean())
    return CalibrationReport(
        calibration_rows=calibration.source,
        check_rows=check.source,
        measures=results,
        measure=policy.confidence,
        ensembles=compare_ensembles(calibration, check, stages, longest, curves.budgets),
        sets=tuple(segment.exits for segment in policy.segments),
        starts=tuple(segment.costs[0] for segment in policy.segments),
        cross_fitted_accuracy=reached,
        envelope_loss=float(curves.envelope().mean(dtype=np.float64)) - reached,
        optimistic_envelope_loss=float(curves.accuracy().max(axis=0).mean()) - reached,
        all_exits_loss=reached - everything,
        curve=tuple(CurvePoint(mean_flops=flops, accuracy=accuracy) for flops, accuracy in policy.curve()),
        baselines=(
            compare("all exits, as published", policy, held_out, "probability", every, stages, dense),
            compare("our exits", policy, held_out, policy.confidence, longest, stages),
        ),
        exit_accuracies=tuple(map(float, check.correct.mean(axis=1))),
        calibration_errors=calibration_errors(check, policy.temperatures),
        unscaled_calibration_errors=calibration_errors(check),
        scaled_calibration_errors=calibration_errors(check, temperatures),
        temperatures=temperatures,
    )
