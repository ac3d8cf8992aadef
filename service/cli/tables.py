"""Results as tables on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from model_store.flops import dense_flops, direct_flops
from model_store.manifest import Manifest
from model_store.quantized import Int8Record
from service.cli.options import console

if TYPE_CHECKING:
    from model_store.training.means import MeansResult
    from model_store.training.report import CalibrationReport
    from model_store.training.results import Evaluation


def show_manifest(manifest: Manifest, int8: Int8Record | None = None) -> None:
    """Print one artifact: a row per exit, with what int8 gains on the rows that both were judged on."""
    table = Table(
        title=f"{manifest.name}@{manifest.version}  task {manifest.task}  policy {manifest.policy.id}"
    )
    for column in ("exit", "FLOPs direct", "FLOPs dense", "accuracy held-out", "accuracy test"):
        table.add_column(column, justify="right")
    if int8 is not None:
        table.add_column("int8, points", justify="right")
    costs = zip(manifest.exits, direct_flops(manifest.stages), dense_flops(manifest.stages), strict=True)
    for k, (spec, direct, dense) in enumerate(costs, start=1):
        test = "" if spec.test_accuracy is None else f"{spec.test_accuracy:.2%}"
        gain = [] if int8 is None else [f"{int8.exits[k - 1].gain * 100:+.2f}"]
        table.add_row(str(k), f"{direct:,}", f"{dense:,}", f"{spec.accuracy:.2%}", test, *gain)
    console.print(table)


def show_means(results: Sequence[MeansResult]) -> None:
    """Print one short run a row."""
    table = Table(title="short runs of equal length, accuracy on the held-out rows")
    for column in ("means", "first exit", "last exit", "mean of exits", "gain, points", "seconds"):
        table.add_column(column, justify="left" if column == "means" else "right")
    for row in results:
        mean = sum(row.accuracies) / len(row.accuracies)
        gain = (
            ""
            if row.gain is None or row.error is None
            else f"{row.gain * 100:+.2f} ± {row.error * 100:.2f} on {row.against}"
        )
        shares = (f"{share:.2%}" for share in (row.accuracies[0], row.accuracies[-1], mean))
        table.add_row(row.name, *shares, gain, f"{row.seconds:.0f}")
    console.print(table)


def show_calibration(report: CalibrationReport) -> None:
    """Print the confidence and the exits chosen, and the comparison with the geometric family."""
    table = Table(title=f"confidence: {report.measure}; consulted exits: {', '.join(map(str, report.sets))}")
    for column in ("confidence", "best exits", "accuracy", "behind the best"):
        table.add_column(column, justify="right")
    for row in report.measures:
        behind = f"{row.behind * 100:.2f} ± {row.standard_error * 100:.2f}"
        table.add_row(row.measure, str(row.exits), f"{row.accuracy:.2%}", behind)
    console.print(table)
    for baseline in report.baselines:
        table = Table(title=f"geometric family: {baseline.name}, exits {baseline.exits}")
        for column in ("mean MFLOPs", "ours", "theirs", "difference, points"):
            table.add_column(column, justify="right")
        for point in baseline.compared:
            gain = f"{(point.ours - point.theirs) * 100:+.2f} ± {point.standard_error * 100:.2f}"
            table.add_row(f"{point.mean_flops / 1e6:.2f}", f"{point.ours:.2%}", f"{point.theirs:.2%}", gain)
        console.print(table)


def show_evaluation(result: Evaluation) -> None:
    """Print every exit alone, every mean budget, and limits that are not just the exits' costs."""
    table = Table(title=f"every exit alone, {result.count} rows of {result.rows}")
    for column in ("exit", "MFLOPs direct", "MFLOPs dense", "accuracy", "calibration error"):
        table.add_column(column, justify="right")
    for spec in result.exits:
        flops = (f"{spec.direct_flops / 1e6:.2f}", f"{spec.dense_flops / 1e6:.2f}")
        table.add_row(str(spec.exit), *flops, f"{spec.accuracy:.2%}", f"{spec.calibration_error:.2%}")
    console.print(table)
    _show_budgets(result)
    if {limit.limit for limit in result.limits} - {spec.direct_flops for spec in result.exits}:
        table = Table(title="limits, FLOPs that no image exceeds")
        for column in ("limit, M", "exit", "spent, M", "accuracy"):
            table.add_column(column, justify="right")
        for row in result.limits:
            cells = (f"{row.limit / 1e6:.2f}", str(row.exit), f"{row.flops / 1e6:.2f}")
            table.add_row(*cells, f"{row.accuracy:.2%}")
        console.print(table)


def _show_budgets(result: Evaluation) -> None:
    """Print every mean budget; one beyond the policy's curve cannot be spent, which is no fault of it."""
    table = Table(title=f"mean budgets, policy {result.policy}")
    for column in ("budget, M", "spent, M", "of budget", "accuracy", "geometric", "shares of exits, %"):
        table.add_column(column, justify="right")
    for row in result.budgets:
        theirs = "" if row.geometric_accuracy is None else f"{row.geometric_accuracy:.2%}"
        shares = " ".join(f"{share * 100:.0f}" for share in row.shares)
        spent = f"{row.mean_flops / row.budget:.1%}" + (", saturated" if row.saturated else "")
        flops = (f"{row.budget / 1e6:.2f}", f"{row.mean_flops / 1e6:.2f}")
        table.add_row(*flops, spent, f"{row.accuracy:.2%}", theirs, shares)
    console.print(table)
