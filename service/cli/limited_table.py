"""Compute-limited training as tables on standard output, like Tables I to V of seed 003."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from service.cli.options import console

if TYPE_CHECKING:
    from model_store.training.limited import LimitedRun


def show_limited(results: Sequence[LimitedRun]) -> None:
    """Print the cost of each network, then what its best setting reached, the best first."""
    from model_store.training.limited import best_settings

    costs = _table(
        f"training cost; limit {results[0].limit:.3g} FLOPs, one FLOP is one multiply-add",
        ("parameters", "MFLOPs an image", "GFLOPs an epoch", "epochs affordable"),
    )
    reached = _table(
        "best setting by held-out rows, judged on the test rows",
        ("optimiser-rate-batch", "epochs", "held-out", "test", "seconds"),
    )
    for run in sorted(best_settings(results), key=lambda run: -run.test_accuracy):
        costs.add_row(
            run.network,
            f"{run.parameters:,}",
            f"{run.image_flops / 1e6:.2f}",
            f"{run.epoch_flops / 1e9:,.0f}",
            f"{run.epochs_affordable:.1f}",
        )
        cells = (f"{run.best.accuracy:.2%}", f"{run.test_accuracy:.2%}", f"{run.seconds:.0f}")
        reached.add_row(run.network, str(run.setting), f"{run.best.epochs:.1f}", *cells)
    console.print(costs)
    console.print(reached)


def _table(title: str, columns: Sequence[str]) -> Table:
    """A table whose names are whole in 80 columns, which lines between the cells would not allow."""
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table
