"""The picture of an evaluation: accuracy against mean FLOPs, and where images leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from model_store.training.evaluate import Evaluation
from model_store.training.published import PUBLISHED, PublishedCurve

INK, FAINT, GRID = "#22272e", "#6b7480", "#e6e8eb"
OURS, FAMILY, ANYTIME = "#c2410c", "#64748b", "#1d4ed8"
PUBLISHED_STYLES = (("s", "#7c3aed"), ("^", "#0f766e"), ("D", "#a16207"))
"""Marker and colour of published methods, in the order in which they first appear."""

WIDTH_IN, HEIGHT_IN, DPI = 11.0, 5.0, 160
"""1,760 x 800 pixels: text stays readable at a README's width of some 900."""


def plot(evaluation: Evaluation, task: str, title: str | None = None) -> Figure:
    """Draw an evaluation.

    Args:
        evaluation: What was measured; its budgets should rise.
        task: Chooses the published points; a task without any gets none.
        title: Heading; the rows' source if not given.

    Returns:
        A figure of its own: nothing global is touched, and any thread may draw.
    """
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.62, 1))
    _accuracy_panel(left, evaluation, PUBLISHED.get(task, ()))
    _shares_panel(right, evaluation)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=5,
        fontsize=8.8,
        frameon=False,
        labelcolor=INK,
        columnspacing=1.6,
    )
    heading = title or f"{task}: {evaluation.count:,} rows of {evaluation.rows}"
    figure.suptitle(heading, x=0.012, ha="left", fontsize=12.5, fontweight="bold", color=INK)
    return figure


def save_plot(evaluation: Evaluation, task: str, path: Path, title: str | None = None) -> None:
    """Draw an evaluation into a PNG at ``path``.

    Raises:
        OSError: The file cannot be written.
    """
    plot(evaluation, task, title).savefig(path, format="png")


def _accuracy_panel(axes: Axes, evaluation: Evaluation, published: Sequence[PublishedCurve]) -> None:
    """Accuracy in percent against mean FLOPs in millions."""
    edge = 1.06 * evaluation.exits[-1].dense_flops / 1e6
    ours = [(budget.mean_flops / 1e6, 100 * budget.accuracy) for budget in evaluation.budgets]
    if ours:
        x, y = zip(*ours, strict=True)
        axes.plot(x, y, color=OURS, lw=2.4, marker="o", ms=4.5, zorder=5, label="ours, mean budget")
    if evaluation.geometric:
        points = evaluation.geometric[0]
        flops, accuracy = [p.mean_flops / 1e6 for p in points], [100 * p.accuracy for p in points]
        axes.plot(flops, accuracy, color=FAMILY, lw=1.4, ls=(0, (4, 2)), label="ours, geometric thresholds")
    _anytime(axes, evaluation)
    _published(axes, published, edge)
    axes.set_xlim(0.85 * evaluation.exits[0].direct_flops / 1e6, edge)
    _frame(axes, "Accuracy", "mean FLOPs per image (M multiply-adds)", "%")
    axes.margins(y=0.08)


def _anytime(axes: Axes, evaluation: Evaluation) -> None:
    """A dot per exit at its own cost, and a line to what it costs when all earlier heads run."""
    for spec in evaluation.exits:
        x, y = (spec.direct_flops / 1e6, spec.dense_flops / 1e6), 100 * spec.accuracy
        axes.plot(x, (y, y), color=ANYTIME, lw=1.1, alpha=0.55, zorder=3)
        axes.plot(x[0], y, "o", color=ANYTIME, ms=5.5, zorder=4, label=_once(axes, "ours, one exit for all"))
        axes.plot(
            x[1], y, "|", color=ANYTIME, ms=7, zorder=4, label=_once(axes, "ours, with all earlier heads")
        )


def _published(axes: Axes, published: Sequence[PublishedCurve], edge: float) -> None:
    """Budgeted curves filled, anytime ones hollow and dotted; points beyond the panel are left out."""
    methods = list(dict.fromkeys(curve.method for curve in published))
    for curve in published:
        marker, colour = PUBLISHED_STYLES[methods.index(curve.method) % len(PUBLISHED_STYLES)]
        inside = [point for point in curve.points if point[0] <= edge]
        if not inside:
            continue
        axes.plot(
            *zip(*inside, strict=True),
            color=colour,
            marker=marker,
            ms=5,
            lw=1.1 if curve.budgeted else 0.9,
            ls="-" if curve.budgeted else ":",
            mfc=colour if curve.budgeted else "white",
            alpha=0.85,
            label=f"{curve.method}, {'mean budget' if curve.budgeted else 'anytime'}",
        )


def _shares_panel(axes: Axes, evaluation: Evaluation) -> None:
    """Share of rows that leaves at each exit, stacked, against the budget."""
    budgets = np.array([budget.budget for budget in evaluation.budgets]) / 1e6
    shares = 100 * np.array([budget.shares for budget in evaluation.budgets]).reshape(
        len(budgets), len(evaluation.exits)
    )
    used = [k for k in range(shares.shape[1]) if shares[:, k].any()]
    colours = colormaps["viridis_r"](np.linspace(0.08, 0.92, len(evaluation.exits)))
    if used:
        labels = [f"exit {k + 1}" for k in used]
        axes.stackplot(
            budgets, shares[:, used].T, colors=colours[used], labels=labels, edgecolor="white", linewidth=0.6
        )
        axes.set_xlim(budgets[0], max(budgets[-1], budgets[0] * 1.001))
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            fontsize=8.5,
            frameon=False,
            labelcolor=INK,
            reverse=True,
            handlelength=1.2,
        )
    axes.set_ylim(0, 100)
    _frame(axes, "Where images leave", "mean budget (M multiply-adds)", "%")


def _frame(axes: Axes, name: str, x_label: str, y_unit: str) -> None:
    """Title, labels, light grid, no box."""
    axes.set_title(name, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(x_label, fontsize=9.5, color=INK)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} {y_unit}"))
    axes.tick_params(labelsize=9, colors=FAINT, length=3)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)


def _once(axes: Axes, label: str) -> str:
    """``label`` for its first use on these axes, hidden from the legend after that."""
    return f"_{label}" if label in axes.get_legend_handles_labels()[1] else label
