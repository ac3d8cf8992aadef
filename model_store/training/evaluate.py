"""What a policy does on labelled rows: anytime, budgeted with the ledger, and limited.

Every consulted exit sees every row once; decisions are then replayed image by image. Spans run exactly as
serving splits them for each path of a budget; only anytime and limited results are read from one run along
all exits, whose logits differ by rounding at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from model_store.flops import StageFlops, dense_flops, direct_flops
from model_store.policy import Plan, Policy, make_plan
from model_store.training.data import Rows
from model_store.training.replay import ImageOutcome, replay
from model_store.training.report import Baseline, CurvePoint, calibration_errors
from model_store.training.scores import OnRows, Scores, SpanRunner, collect_path
from model_store.training.stopping import Answers, apply


class ExitResult(BaseModel, frozen=True, extra="forbid"):
    """One exit when every row leaves there: anytime prediction."""

    exit: int = Field(ge=1, description="1-based.")
    accuracy: float = Field(ge=0, le=1)
    direct_flops: int = Field(description="FLOPs when it is the only head that runs.")
    dense_flops: int = Field(description="FLOPs when all earlier heads run too: what papers report.")
    calibration_error: float = Field(description="Expected calibration error, 15 bins.")


class BudgetResult(BaseModel, frozen=True, extra="forbid"):
    """Rows served one after the other at one mean budget."""

    budget: float = Field(description="Mean FLOPs per image that were allowed.")
    mean_flops: float = Field(description="Mean FLOPs per image that were spent.")
    accuracy: float = Field(ge=0, le=1)
    shares: tuple[float, ...] = Field(description="Share of rows that left at each of the K exits.")
    geometric_accuracy: float | None = Field(
        description="Accuracy of the first baseline at the same spent mean, None out of its range."
    )


class LimitResult(BaseModel, frozen=True, extra="forbid"):
    """Rows served under a limit alone."""

    limit: float = Field(description="FLOPs that no image may exceed.")
    exit: int = Field(ge=1, description="Where all rows leave, 1-based.")
    flops: int = Field(description="FLOPs of every image.")
    accuracy: float = Field(ge=0, le=1)


class Evaluation(BaseModel, frozen=True, extra="forbid"):
    """Everything that was measured on one set of rows. Accuracies are shares, FLOPs are per image."""

    rows: str = Field(description="Rows it was measured on.")
    count: int = Field(description="Number of rows.")
    policy: str = Field(description="Id of the policy.")
    exits: tuple[ExitResult, ...]
    budgets: tuple[BudgetResult, ...]
    limits: tuple[LimitResult, ...]
    geometric: tuple[tuple[CurvePoint, ...], ...] = Field(
        description="Curve of each baseline on these rows, with its thresholds from calibration."
    )


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
    batch_size: int = 250,
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
    batch_size: int = 250,
    on_rows: OnRows = _ignore,
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

    Raises:
        UnaffordableError: A budget or limit is below the cheapest exit.
    """
    plans, caps = _plans(policy, stages, budgets, limits)
    paths = PathScores(runner, rows, batch_size, on_rows)
    every = paths.along(range(len(stages)))
    curves = tuple(_baseline_curve(baseline, every, stages) for baseline in baselines)
    return Evaluation(
        rows=rows.source,
        count=len(rows),
        policy=policy.id,
        exits=_exit_results(every, stages),
        budgets=tuple(_budget_result(plan, paths, every, policy, curves[:1]) for plan in plans),
        limits=tuple(_limit_result(plan, every) for plan in caps),
        geometric=curves,
    )


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


def _exit_results(every: Scores, stages: Sequence[StageFlops]) -> tuple[ExitResult, ...]:
    """Anytime results of all exits."""
    columns = zip(
        every.correct.mean(axis=1),
        direct_flops(tuple(stages)),
        dense_flops(tuple(stages)),
        calibration_errors(every),
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
    )


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
