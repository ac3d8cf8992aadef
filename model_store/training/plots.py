"""The figure of an evaluation: both curves beside control and published points, exit shares, images."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from model_store.training.data import Rows
from model_store.training.gallery import gallery
from model_store.training.panels import CONTROLS, FAINT, INK, anytime_panel, budgeted_panel, shares_panel
from model_store.training.published import PUBLISHED
from model_store.training.results import Evaluation

WIDTH_IN, HEIGHT_IN, DPI = 10.0, 7.6, 180
"""1,800 pixels wide: twice the width of a README, where 9 points are then 11 pixels."""

NOTE = (
    "Anytime curves charge all earlier heads, as papers do. Budgets: one image after the other, "
    "with the ledger. Published: single view."
)


def plot(
    evaluation: Evaluation, task: str, controls: Sequence[Evaluation] = (), rows: Rows | None = None
) -> Figure:
    """Draw an evaluation.

    Args:
        evaluation: What was measured.
        task: Chooses the published points; a task without any gets none.
        controls: Evaluations of other networks on the same rows, up to three.
        rows: The evaluated rows, for the images; without them there are none in the figure.

    Returns:
        A figure of its own: nothing global is touched, and any thread may draw.

    Raises:
        ValueError: More controls than there are styles for.
    """
    if len(controls) > len(CONTROLS):
        raise ValueError(f"a figure has room for {len(CONTROLS)} controls, got {len(controls)}")
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05)
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white", layout=layout)
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.28, 1))
    _curves(upper, evaluation, task, controls)
    if evaluation.leavers is not None and rows is not None:
        ((left, right),) = lower.subfigures(1, 2, squeeze=False, width_ratios=(0.78, 1))
        shares_panel(left.subplots(), evaluation)
        gallery(right, evaluation.leavers, rows)
    else:
        shares_panel(lower.subplots(), evaluation)
    figure.suptitle(_heading(evaluation), x=0.008, ha="left", fontsize=12.5, fontweight="bold", color=INK)
    figure.supxlabel(NOTE, x=0.008, ha="left", fontsize=8, color=FAINT)
    return figure


def save_plot(
    evaluation: Evaluation,
    task: str,
    path: Path,
    controls: Sequence[Evaluation] = (),
    rows: Rows | None = None,
) -> None:
    """Draw an evaluation into a PNG at ``path``, as ``plot`` does.

    Raises:
        OSError: The file cannot be written.
        ValueError: More controls than there are styles for.
    """
    plot(evaluation, task, controls, rows).savefig(path, format="png")


def _curves(figure: SubFigure, evaluation: Evaluation, task: str, controls: Sequence[Evaluation]) -> None:
    """Anytime and budgeted, side by side on one scale of accuracy, with one legend for both."""
    published = PUBLISHED.get(task, ())
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    anytime_panel(left, evaluation, controls, published)
    budgeted_panel(right, evaluation, controls, published)
    left.margins(y=0.07)
    handles = _handles(left) | _handles(right)
    order = sorted(handles, key=lambda name: (not name.startswith("ours"), not name.startswith("control")))
    figure.legend(
        [handles[name] for name in order],
        order,
        loc="outside lower center",
        ncols=max(1, ceil(len(order) / 3)),
        fontsize=9,
        frameon=False,
        labelcolor=INK,
        columnspacing=1.6,
    )


def _handles(axes: Axes) -> dict[str, Artist]:
    handles, names = axes.get_legend_handles_labels()
    return dict(zip(names, handles, strict=True))


def _heading(evaluation: Evaluation) -> str:
    """What was measured on what."""
    return f"{evaluation.model or 'A network'} on {evaluation.rows}, n = {evaluation.count:,}"
