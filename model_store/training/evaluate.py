"""What a policy does on labelled rows: anytime, budgeted with the ledger, and limited.

Every consulted exit sees every row once; decisions are then replayed image by image. Spans run exactly as
serving splits them for each path of a budget; only anytime and limited results are read from one run along
all exits, whose logits differ by rounding at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from model_store.flops import StageFlops, dense_flops, direct_flops
from model_store.policy import Plan, Policy, make_plan
from model_store.training.data import Rows
from model_store.training.replay import ImageOutcome, leavers, replay
from model_store.training.report import Baseline, CurvePoint, calibration_errors
from model_store.training.results import BudgetResult, Evaluation, ExitResult, Leavers, LimitResult
from model_store.training.scores import BATCH, OnRows, Scores, SpanRunner, collect_path
from model_store.training.stopping import Answers, apply


class PathScores:
    """Logits along paths of consulted exits, each path run once."""

    def __init__(self, runner: SpanRunner, rows: Rows, batch_size: int, on_rows: OnRows) -> None:
        """Run nothing yet."""
        self._runner, self._rows, self._batch_size, self._on_rows = runner, rows, batch_size, on_rows
        self._known: dict[tuple[int, ...], Scores] = {}

    def along(self, exits: Sequence[int]) -> Scores:
        """Scores of the consulted ``exits``, 0-based; a path that goes on after them serves as well."""
        path = tuple(exits)
        for known, scores in self._known.items():
            if known[: len(path)] == path:
                logits = scores.logits[: len(path)]
                return Scores(logits, scores.labels, scores.source, path)
        self._known[path] = collect_path(self._runner, path, self._rows, self._batch_size, self._on_rows)
        return self._known[path]


def _ignore(done: int, rows: int) -> None:
    """Report nothing."""


def outcomes(
    runner: SpanRunner,
    stages: Sequence[StageFlops],
    policy: Policy,
    rows: Rows,
    mean: float | None = None,
    limit: float | None = None,
    batch_size: int = BATCH,
    on_rows: OnRows = _ignore,
) -> list[ImageOutcome]:
    """What a service that has just started answers to ``rows``, sent one after the other.

    Args:
        runner: Executes the spans.
        stages: FLOPs of each stage.
        policy: Decides the exits.
        rows: Images in the order of the requests.
        mean: Budget of every request, ``None`` for the policy's default (or none beside a limit).
        limit: Limit of every request.
        batch_size: Images per launch.
        on_rows: Called with (rows done, rows in all) after each batch.

    Raises:
        UnaffordableError: Budget or limit is below the cheapest exit.
    """
    plan = make_plan(policy, stages, mean, limit)
    done = replay(plan, collect_path(runner, plan.exits, rows, batch_size, on_rows), policy)
    columns = done.classes.tolist(), (done.exits + 1).tolist(), done.flops.tolist()
    return [ImageOutcome(*row) for row in zip(*columns, strict=True)]


def evaluate(
    runner: SpanRunner,
    stages: Sequence[StageFlops],
    policy: Policy,
    rows: Rows,
    budgets: Sequence[float],
    limits: Sequence[float] = (),
    baselines: Sequence[Baseline] = (),
    batch_size: int = BATCH,
    on_rows: OnRows = _ignore,
    model: str = "",
) -> Evaluation:
    """Measure anytime, budgeted and limited classification.

    Args:
        runner: Executes the spans.
        stages: FLOPs of each stage.
        policy: Decides the exits.
        rows: Images in the order in which they are served.
        budgets: Mean FLOPs per image.
        limits: FLOPs that no image may exceed.
        baselines: Of the calibration report; their thresholds are applied to these rows.
        batch_size: Images per launch.
        on_rows: Told of each batch of each path.
        model: Artifact, name@version, for the result.

    Raises:
        UnaffordableError: A budget or limit is below the cheapest exit.
    """
    plans, caps = _plans(policy, stages, budgets, limits)
    paths = PathScores(runner, rows, batch_size, on_rows)
    every = paths.along(range(len(stages)))
    curves = tuple(_baseline_curve(baseline, every, stages) for baseline in baselines)
    return Evaluation(
        model=model,
        rows=rows.source,
        count=len(rows),
        policy=policy.id,
        exits=_exit_results(every, stages, policy),
        budgets=tuple(_budget_result(plan, paths, every, policy, curves[:1]) for plan in plans),
        limits=tuple(_limit_result(plan, every) for plan in caps),
        geometric=curves,
        leavers=_leavers_in_the_middle(plans, paths, policy),
    )


def saturation(policy: Policy) -> float:
    """Mean FLOPs of the policy's last entry: what a budget allows beyond it buys nothing."""
    return max(flops for flops, _ in policy.curve())


def _plans(
    policy: Policy, stages: Sequence[StageFlops], budgets: Sequence[float], limits: Sequence[float]
) -> tuple[list[Plan], list[Plan]]:
    """All plans before any run: a mistaken budget should not cost minutes."""
    means = [make_plan(policy, stages, budget, None) for budget in budgets]
    return means, [make_plan(policy, stages, None, limit) for limit in limits]


def _limit_result(plan: Plan, every: Scores) -> LimitResult:
    """All rows leave at the one exit of ``plan``."""
    (k,), (flops,) = plan.exits, plan.costs
    return LimitResult(limit=plan.allowed, exit=k + 1, flops=flops, accuracy=float(every.correct[k].mean()))


def _exit_results(every: Scores, stages: Sequence[StageFlops], policy: Policy) -> tuple[ExitResult, ...]:
    """Anytime results of all exits."""
    columns = zip(
        every.correct.mean(axis=1),
        direct_flops(tuple(stages)),
        dense_flops(tuple(stages)),
        calibration_errors(every, policy.temperatures),
        strict=True,
    )
    return tuple(
        ExitResult(
            exit=k, accuracy=float(right), direct_flops=direct, dense_flops=dense, calibration_error=error
        )
        for k, (right, direct, dense, error) in enumerate(columns, start=1)
    )


def _budget_result(
    plan: Plan, paths: PathScores, every: Scores, policy: Policy, curves: Sequence[tuple[CurvePoint, ...]]
) -> BudgetResult:
    """Replay of ``plan``, and the first of ``curves`` at the mean that it spent."""
    done = replay(plan, paths.along(plan.exits), policy)
    exits = len(every.exits)
    mean = float(done.flops.mean())
    return BudgetResult(
        budget=plan.allowed,
        mean_flops=mean,
        accuracy=float((done.classes == every.labels.numpy()).mean()),
        shares=tuple(float(share) for share in np.bincount(done.exits, minlength=exits) / len(every)),
        geometric_accuracy=_accuracy_at(curves[0], mean) if curves else None,
        saturated=plan.allowed > saturation(policy),
    )


def even_budgets(policy: Policy, cheapest: float, most: int = 24) -> list[float]:
    """Multiples of a round step from ``cheapest`` FLOPs to the first beyond the policy's curve.

    Args:
        policy: Its last entry ends the range.
        cheapest: Lowest budget that can be afforded, FLOPs.
        most: How many budgets at most; the step is the finest of 1, 2 or 5 times a power of ten within it.
    """
    end = saturation(policy)
    steps = (figure * 10.0**power for power in range(3, 15) for figure in (1, 2, 5))
    grids = ((step, range(ceil(cheapest / step), int(end // step) + 2)) for step in steps)
    return next([step * i for i in grid] for step, grid in grids if len(grid) <= most)


def _leavers_in_the_middle(plans: Sequence[Plan], paths: PathScores, policy: Policy) -> Leavers | None:
    """First and last to leave at the budget closest to the middle of the policy's curve."""
    choices = [plan for plan in plans if len(plan.exits) > 1]
    if not choices:
        return None
    middle = (policy.curve()[0][0] + saturation(policy)) / 2
    plan = min(choices, key=lambda plan: abs(plan.allowed - middle))
    scores = paths.along(plan.exits)
    return leavers(plan, scores, replay(plan, scores, policy), policy)


def _accuracy_at(curve: Sequence[CurvePoint], mean_flops: float) -> float | None:
    """Accuracy of a rising curve at a mean, interpolated; ``None`` outside."""
    means = [point.mean_flops for point in curve]
    if not means[0] <= mean_flops <= means[-1]:
        return None
    return float(np.interp(mean_flops, means, [point.accuracy for point in curve]))


def _baseline_curve(
    baseline: Baseline, every: Scores, stages: Sequence[StageFlops]
) -> tuple[CurvePoint, ...]:
    """Apply a baseline's thresholds to these rows; by rising mean."""
    thresholds = np.array([point.thresholds for point in baseline.curve])
    answers = Answers.of(every, baseline.measure)
    outcome = apply(answers, [k - 1 for k in baseline.exits], thresholds, stages, baseline.costs)
    points = zip(outcome.mean_flops.tolist(), outcome.correct.mean(axis=1).tolist(), strict=True)
    return tuple(CurvePoint(mean_flops=flops, accuracy=right) for flops, right in sorted(points))
