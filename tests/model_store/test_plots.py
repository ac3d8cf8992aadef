"""The figure of an evaluation: what must be on it, and that nothing lies over the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from PIL import Image

from model_store.training.evaluate import BudgetResult, Evaluation, ExitResult
from model_store.training.plots import plot, save_plot
from model_store.training.published import PUBLISHED
from model_store.training.report import CurvePoint

DIRECT = (15, 22, 30, 36, 42, 49, 54)
DENSE = (15, 23, 34, 41, 49, 58, 64)


def evaluation(budgets: int = 6) -> Evaluation:
    exits = tuple(
        ExitResult(
            exit=k + 1,
            accuracy=0.90 + 0.007 * k,
            direct_flops=DIRECT[k] * 10**6,
            dense_flops=DENSE[k] * 10**6,
            calibration_error=0.02,
        )
        for k in range(7)
    )
    results = tuple(
        BudgetResult(
            budget=mean * 1e6,
            mean_flops=mean * 0.98e6,
            accuracy=0.90 + 0.05 * (1 - np.exp(-(mean - 15) / 6)),
            shares=(1 - (mean - 15) / 50, (mean - 15) / 80, 0, 0, (mean - 15) / 50 - (mean - 15) / 80, 0, 0),
            geometric_accuracy=None,
        )
        for mean in np.linspace(16, 45, budgets)
    )
    family = tuple(
        CurvePoint(mean_flops=mean * 1e6, accuracy=0.95 - (60 - mean) / 900) for mean in range(16, 57)
    )
    return Evaluation(
        rows="cifar10/test",
        count=10_000,
        policy="0123456789ab",
        exits=exits,
        budgets=results,
        limits=(),
        geometric=(family,),
    )


def test_the_picture_is_a_png_of_readable_size(tmp_path: Path) -> None:
    save_plot(evaluation(), "cifar10", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG" and picture.size == (1760, 800)
        assert picture.convert("RGB").getpixel((2, 400)) == (255, 255, 255)


@pytest.mark.parametrize("task", ["cifar10", "cifar100"])
def test_every_published_method_of_the_task_is_in_the_legend(task: str) -> None:
    figure = plot(evaluation(), task)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "ours, mean budget"
    for curve in PUBLISHED[task]:
        assert f"{curve.method}, {'mean budget' if curve.budgeted else 'anytime'}" in labels


def test_a_task_without_published_points_is_drawn_alone() -> None:
    labels = [text.get_text() for text in plot(evaluation(), "flowers").figure.legends[0].get_texts()]
    assert all(label.startswith("ours") for label in labels)


def test_our_curve_shows_realised_means_in_millions_and_accuracy_in_percent() -> None:
    shown = evaluation()
    line = next(
        line for line in plot(shown, "cifar10").axes[0].lines if line.get_label() == "ours, mean budget"
    )
    assert line.get_xdata() == pytest.approx([budget.mean_flops / 1e6 for budget in shown.budgets])
    assert line.get_ydata() == pytest.approx([100 * budget.accuracy for budget in shown.budgets])


def test_no_legend_lies_over_the_data() -> None:
    figure = plot(evaluation(), "cifar10")
    figure.draw_without_rendering()
    panels = [axes.get_window_extent() for axes in figure.axes]
    legends = [legend.get_window_extent() for legend in figure.legends]
    legends += [axes.get_legend().get_window_extent() for axes in figure.axes if axes.get_legend()]
    assert len(legends) == 2
    assert not any(legend.overlaps(panel) for legend in legends for panel in panels)


def test_only_exits_where_images_leave_are_named_beside_the_shares() -> None:
    legend = plot(evaluation(), "cifar10").axes[1].get_legend()
    assert sorted(text.get_text() for text in legend.get_texts()) == ["exit 1", "exit 2", "exit 5"]


@pytest.mark.parametrize("budgets", [0, 1])
def test_few_or_no_budgets_can_be_drawn(budgets: int, tmp_path: Path) -> None:
    save_plot(evaluation(budgets), "cifar10", tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_drawing_leaves_no_global_figure_behind() -> None:
    plot(evaluation(), "cifar10")
    assert Gcf.get_num_fig_managers() == 0


def test_published_points_rise_in_flops_and_name_their_source() -> None:
    for curves in PUBLISHED.values():
        for curve in curves:
            assert list(curve.points) == sorted(curve.points) and "arXiv:" in curve.source
