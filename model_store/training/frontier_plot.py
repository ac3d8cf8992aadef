"""The figure of accuracy against measured time: a panel for each batch size."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from model_store.training.frontier import Frontier, TimedModel
from model_store.training.panels import CONTROLS, FAINT, INK, OURS, frame

WIDTH_IN, HEIGHT_IN, DPI = 10.0, 4.6, 180

STYLES = (("o", OURS), *CONTROLS)
"""Marker and colour of the models, in the order in which they are given."""


def plot_frontier(measured: Frontier) -> Figure:
    """Draw exits as points joined by a thin line, budgets as a thick line.

    Raises:
        ValueError: More models than there are styles for.
    """
    if len(measured.models) > len(STYLES):
        raise ValueError(f"a figure has room for {len(STYLES)} models, got {len(measured.models)}")
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05)
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white", layout=layout)
    panels = figure.subplots(1, len(measured.batches), sharey=True, squeeze=False)[0]
    for place, (axes, batch) in enumerate(zip(panels, measured.batches, strict=True)):
        for model, style in zip(measured.models, STYLES, strict=False):
            _draw(axes, model, place, style)
        axes.set_xlim(left=0)
        frame(axes, f"Batches of {batch}", "ms per image")
    handles, names = panels[0].get_legend_handles_labels()
    note = f"{measured.device}, {measured.threads} thread, medians of {measured.rounds} launches in turns"
    legend = figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=len(measured.models),
        fontsize=9,
        frameon=False,
        title=note,
        title_fontsize=8,
    )
    legend.get_title().set_color(FAINT)
    heading = f"Accuracy against measured time, {measured.rows}, n = {measured.count:,}"
    figure.suptitle(heading, x=0.008, ha="left", fontsize=12.5, fontweight="bold", color=INK)
    return figure


def _draw(axes: Axes, model: TimedModel, place: int, style: tuple[str, str]) -> None:
    """One model's exits and budgets; exits carry their numbers."""
    marker, colour = style
    times = [point.milliseconds[place] for point in model.exits]
    shares = [100 * point.accuracy for point in model.exits]
    axes.plot(
        times,
        shares,
        color=colour,
        marker=marker,
        ms=5.5,
        mfc="white",
        lw=0.9,
        zorder=5,
        label=f"{model.model}, each exit alone",
    )
    for number, (x, y) in enumerate(zip(times, shares, strict=True), start=1):
        axes.annotate(
            str(number), (x, y), xytext=(4, -9), textcoords="offset points", fontsize=8, color=colour
        )
    if model.budgets:
        axes.plot(
            [point.milliseconds[place] for point in model.budgets],
            [100 * point.accuracy for point in model.budgets],
            color=colour,
            lw=2.4,
            zorder=4,
            label=f"{model.model}, mean budgets",
        )


def save_frontier(measured: Frontier, path: Path) -> None:
    """Write the figure as PNG.

    Raises:
        OSError: The file cannot be written.
        ValueError: More models than there are styles for.
    """
    plot_frontier(measured).savefig(path, format="png")
