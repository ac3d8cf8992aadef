"""The strip of an evaluation's figure: who leaves first and who leaves last."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from model_store.training.data import Rows
from model_store.training.panels import FAINT, INK
from model_store.training.results import Leaver, Leavers

RIGHT, WRONG = "#00664b", "#b03a00"
LONGEST = 12
"""Characters of a class name that fit under an image."""


def gallery(figure: SubFigure, leavers: Leavers, rows: Rows) -> None:
    """Two lines of images with their true class and the answer below.

    Args:
        figure: Drawn into, all of it.
        leavers: Who they are.
        rows: The evaluated rows, which ``leavers`` has indices into.
    """
    lines = (("first", "surest", leavers.first), ("last", "least sure", leavers.last))
    count = max(len(leavers.first), len(leavers.last))
    halves = figure.subfigures(2, 1, squeeze=False)[:, 0]
    for half, (when, how, shown) in zip(halves, lines, strict=True):
        axes = half.subplots(1, count, squeeze=False)[0]
        for place in axes[len(shown) :]:
            place.set_axis_off()
        for place, leaver in zip(axes, shown, strict=False):
            _tile(place, leaver, rows)
        half.suptitle(
            _heading(when, how, shown, leavers.budget),
            x=0.0,
            ha="left",
            fontsize=10,
            fontweight="bold",
            color=INK,
        )


def _heading(when: str, how: str, shown: Sequence[Leaver], budget: float) -> str:
    """What a line of images is."""
    sure = [leaver.confidence for leaver in shown]
    ends = dict.fromkeys(f"{end:.2f}" for end in (min(sure), max(sure)))
    where = f"exit {shown[0].exit} (confidence {' to '.join(ends)})"
    return f"Leave {when} at {budget / 1e6:.4g} M: {how} at {where}"


def _tile(axes: Axes, leaver: Leaver, rows: Rows) -> None:
    """One image, true class above it, the answer below, marked right or wrong by sign and colour."""
    axes.imshow(rows.images[leaver.row].permute(1, 2, 0).numpy(), interpolation="lanczos")
    axes.set_xticks(())
    axes.set_yticks(())
    axes.spines[:].set_visible(False)
    right = leaver.label == leaver.predicted
    answer = f"{'✓' if right else '✗'} {_short(rows.classes[leaver.predicted])}"
    axes.set_title(_short(rows.classes[leaver.label]), fontsize=8.5, color=FAINT, pad=2.5)
    axes.set_xlabel(answer, fontsize=8.5, color=RIGHT if right else WRONG, labelpad=2)


def _short(name: str) -> str:
    """A class name that fits under an image."""
    plain = name.replace("_", " ")
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
