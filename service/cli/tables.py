"""Results as tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from model_store.flops import dense_flops, direct_flops
from model_store.manifest import Manifest
from service.cli.options import console

if TYPE_CHECKING:
    from model_store.training.evaluate import Evaluation
    from model_store.training.report import CalibrationReport


def show_manifest(manifest: Manifest) -> None:
    """Print one artifact: a row per exit."""
    table = Table(
        title=f"{manifest.name}@{manifest.version}  task {manifest.task}  policy {manifest.policy.id}"
    )
    for column in ("exit", "FLOPs direct", "FLOPs dense", "accuracy held-out", "accuracy test"):
        table.add_column(column, justify="right")
    costs = zip(manifest.exits, direct_flops(manifest.stages), dense_flops(manifest.stages), strict=True)
    for k, (spec, direct, dense) in enumerate(costs, start=1):
        test = "" if spec.test_accuracy is None else f"{spec.test_accuracy:.2%}"
        table.add_row(str(k), f"{direct:,}", f"{dense:,}", f"{spec.accuracy:.2%}", test)
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
    """Print every exit alone and every mean budget."""
    table = Table(title=f"every exit alone, {result.count} rows of {result.rows}")
    for column in ("exit", "MFLOPs direct", "MFLOPs dense", "accuracy", "calibration error"):
        table.add_column(column, justify="right")
    for spec in result.exits:
        flops = (f"{spec.direct_flops / 1e6:.2f}", f"{spec.dense_flops / 1e6:.2f}")
        table.add_row(str(spec.exit), *flops, f"{spec.accuracy:.2%}", f"{spec.calibration_error:.2%}")
    console.print(table)
    table = Table(title=f"mean budgets, policy {result.policy}")
    for column in ("budget, M", "spent, M", "of budget", "accuracy", "geometric", "shares of exits"):
        table.add_column(column, justify="right")
    for row in result.budgets:
        theirs = "" if row.geometric_accuracy is None else f"{row.geometric_accuracy:.2%}"
        shares = " ".join(f"{share * 100:.0f}" for share in row.shares)
        used = (
            f"{row.budget / 1e6:.2f}",
            f"{row.mean_flops / 1e6:.2f}",
            f"{row.mean_flops / row.budget:.1%}",
        )
        table.add_row(*used, f"{row.accuracy:.2%}", theirs, shares)
    console.print(table)
