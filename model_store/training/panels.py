"""The panels of an evaluation's figure that have axes: anytime, budgeted, exit shares.

FLOPs are drawn in millions of multiply-adds, accuracies in percent. A method has one colour and one marker
in all panels (Okabe and Ito's palette, which colour-blind readers can tell apart, and greys).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory

from model_store.training.published import PublishedCurve
from model_store.training.results import Evaluation

INK, FAINT, GRID = "#22272e", "#57606a", "#e4e7ea"
OURS = "#d55e00"
CONTROLS = (("s", "#0072b2"), ("P", "#7f7f7f"), ("X", "#f0e442"))
"""Marker and colour of controls, in the order in which they are given."""
METHODS = {
    "MSDNet": ("v", "#56b4e9"),
    "RANet": ("^", "#009e73"),
    "L2W-DEN": ("D", "#cc79a7"),
    "BoostNet": ("p", "#e69f00"),
    "fusion paper": ("*", "#000000"),
}
"""Marker and colour of published methods."""
OTHER = ("h", "#b5bac0")
TICKS = (5, 7, 10, 15, 20, 30, 40, 60, 80, 120, 200, 300, 500, 1000, 2000, 4000)
"""Labels of a logarithmic axis, M."""

Curve = Sequence[tuple[float, float]]
"""Points (FLOPs in millions, accuracy in percent)."""


def anytime_panel(
    axes: Axes, ours: Evaluation, controls: Sequence[Evaluation], published: Sequence[PublishedCurve]
) -> None:
    """Accuracy of every exit against its FLOPs, on a logarithmic axis: published networks are far larger."""
    curves = [curve for curve in published if not curve.budgeted]
    for curve in curves:
        _draw_published(axes, curve)
    for evaluation, style in zip(controls, CONTROLS, strict=False):
        _draw_control(axes, evaluation, _dense(evaluation), style)
    axes.plot(*_columns(_dense(ours)), color=OURS, lw=2.6, marker="o", ms=5.5, zorder=6, label=_name(ours))
    direct = [(spec.direct_flops / 1e6, 100 * spec.accuracy) for spec in ours.exits]
    axes.plot(
        *_columns(direct),
        color=OURS,
        lw=0.9,
        marker="o",
        ms=5,
        mfc="white",
        zorder=5,
        label="ours, only that exit's head",
    )
    flops = [x for curve in curves for x, _ in curve.points] + [x for x, _ in (*direct, *_dense(ours))]
    flops += [x for control in controls for x, _ in _dense(control)]
    axes.set_xscale("log")
    axes.set_xlim(0.9 * min(flops), 1.1 * max(flops))
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    frame(
        axes, "Anytime: every image leaves at the same exit", "FLOPs per image, M multiply-adds (log scale)"
    )


def budgeted_panel(
    axes: Axes, ours: Evaluation, controls: Sequence[Evaluation], published: Sequence[PublishedCurve]
) -> None:
    """Accuracy against the mean FLOPs that were spent under a mean budget."""
    for curve in published:
        if curve.budgeted:
            _draw_published(axes, curve)
    for evaluation, style in zip(controls, CONTROLS, strict=False):
        _draw_control(axes, evaluation, _budgeted(evaluation), style)
    if ours.geometric:
        family = [(point.mean_flops / 1e6, 100 * point.accuracy) for point in ours.geometric[0]]
        axes.plot(
            *_columns(family),
            color=FAINT,
            lw=1.1,
            ls=(0, (3, 1.5)),
            zorder=4,
            label="ours, geometric thresholds",
        )
    points = _budgeted(ours)
    if points:
        axes.plot(*_columns(points), color=OURS, lw=2.6, marker="o", ms=4.5, zorder=6, label=_name(ours))
    flops = [x for curve in published if curve.budgeted for x, _ in curve.points]
    flops += [x for evaluation in (ours, *controls) for x, _ in _budgeted(evaluation)]
    if flops:
        # The geometric family may go on, flat, for twice this width.
        axes.set_xlim(min(flops) - 0.04 * max(flops), 1.04 * max(flops))
    frame(axes, "Budgeted: a mean is held, easy images leave early", "mean FLOPs per image, M multiply-adds")


def shares_panel(axes: Axes, evaluation: Evaluation) -> None:
    """Share of rows that leaves at each exit, stacked, against the mean budget."""
    rows = sorted(evaluation.budgets, key=lambda row: row.budget)
    budgets = np.array([row.budget for row in rows]) / 1e6
    if len(rows) == 1:  # an area needs two sides
        rows, budgets = rows * 2, budgets[0] * np.array([0.95, 1.05])
        axes.set_xticks([budgets.mean()])
    shares = 100 * np.array([row.shares for row in rows]).reshape(len(rows), len(evaluation.exits))
    used = [k for k in range(shares.shape[1]) if shares[:, k].any()]
    if used:
        colours = colormaps["YlGnBu"](np.linspace(0.22, 0.95, len(evaluation.exits)))[used]
        names = [f"exit {k + 1}" for k in used]
        axes.stackplot(budgets, shares[:, used].T, colors=colours, labels=names, ec="white", lw=0.6)
        end = min([float(row.budget) / 1e6 for row in rows if row.saturated], default=budgets[-1])
        axes.set_xlim(budgets[0], max(min(1.15 * end, budgets[-1]), 1.001 * budgets[0]))
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.0, 1.02),
            fontsize=9,
            frameon=False,
            labelcolor=INK,
            reverse=True,
            handlelength=1.0,
            handletextpad=0.5,
            borderpad=0.2,
        )
        if end < budgets[-1]:
            _mark(axes, end, "curve ends ", height=0.1, side="right")  # clear of the other and of the edge
    if evaluation.leavers is not None:
        _mark(axes, evaluation.leavers.budget / 1e6, " images shown", height=0.03, side="left")
    axes.set_ylim(0, 100)
    frame(axes, "Where images leave", "mean budget, M multiply-adds")


def frame(axes: Axes, name: str, x_label: str) -> None:
    """Title, labels, light grid, no box; the other axis is in percent."""
    axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=INK, pad=8)
    axes.set_xlabel(x_label, fontsize=9.5, color=INK)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.tick_params(labelsize=9, colors=FAINT, length=3)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)


def _mark(axes: Axes, budget: float, text: str, height: float, side: Literal["left", "right"]) -> None:
    """A dashed line at ``budget`` (M), named inside the panel; ``side`` of the text touches it."""
    axes.axvline(budget, color="white", lw=1.2, ls=(0, (3, 2)))
    place = blended_transform_factory(axes.transData, axes.transAxes)
    axes.text(budget, height, text, transform=place, fontsize=8.5, color=INK, ha=side)


def _draw_published(axes: Axes, curve: PublishedCurve) -> None:
    marker, colour = METHODS.get(curve.paper.method, OTHER)
    size, line = 9 if marker == "*" else 5, "-" if len(curve.points) > 1 else "none"
    axes.plot(
        *_columns(curve.points), color=colour, marker=marker, ms=size, lw=1.2, ls=line, label=curve.label
    )


def _draw_control(axes: Axes, evaluation: Evaluation, points: Curve, style: tuple[str, str]) -> None:
    marker, colour = style
    name = f"control {evaluation.model}".strip()
    if points:
        axes.plot(*_columns(points), color=colour, marker=marker, ms=4.5, lw=1.8, zorder=5, label=name)


def _name(evaluation: Evaluation) -> str:
    return f"ours: {evaluation.model}" if evaluation.model else "ours"


def _dense(evaluation: Evaluation) -> Curve:
    """All exits, with all earlier heads charged, as papers count."""
    return [(spec.dense_flops / 1e6, 100 * spec.accuracy) for spec in evaluation.exits]


def _budgeted(evaluation: Evaluation) -> Curve:
    """What was spent under each budget, by rising mean."""
    return sorted((row.mean_flops / 1e6, 100 * row.accuracy) for row in evaluation.budgets)


def _columns(points: Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
