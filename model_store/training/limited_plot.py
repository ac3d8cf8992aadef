"""The figure of compute-limited training: accuracy against FLOPs spent, a line for each network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from model_store.training.limited import LimitedRun, best_settings
from model_store.training.panels import FAINT, INK

WIDTH_IN, HEIGHT_IN, DPI = 9.0, 5.2, 180

STYLES = ("-", "--", ":")
"""With colours: lines of one colour differ by these."""


def plot_limited(results: Sequence[LimitedRun]) -> Figure:
    """Draw the best setting of each network; labels stand in the order of the lines' ends."""
    figure = Figure(
        figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white", layout=ConstrainedLayoutEngine()
    )
    axes = figure.subplots()
    runs = sorted(best_settings(results), key=lambda run: -run.best.accuracy)
    for number, run in enumerate(runs):
        axes.plot(
            [check.flops for check in run.checks],
            [check.accuracy * 100 for check in run.checks],
            STYLES[number // 6 % len(STYLES)],
            color=f"C{number % 6}",
            linewidth=1.6,
            label=f"{run.network.removesuffix('-cifar')}  {run.best.accuracy:.1%}, {run.setting}",
        )
    axes.set_xlabel("training FLOPs spent (multiply-adds, forward and backward)", color=INK)
    axes.set_ylabel("accuracy on held-out rows, %", color=INK)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5, title="best of its settings")
    return figure


def save_limited(results: Sequence[LimitedRun], path: Path) -> None:
    """Write the figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plot_limited(results).savefig(path, format="png")
