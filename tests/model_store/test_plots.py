"""The figure of an evaluation: what must be on it, and that nothing lies over the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_images
from matplotlib._pylab_helpers import Gcf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from model_store.training.data import Rows
from model_store.training.panels import CONTROLS, METHODS, OTHER, OURS
from model_store.training.plots import plot, save_plot
from model_store.training.published import BUDGETS, PUBLISHED
from model_store.training.report import CurvePoint
from model_store.training.results import BudgetResult, Evaluation, ExitResult, Leaver, Leavers

DIRECT = (15, 22, 30, 36, 42, 49, 54)
DENSE = (15, 23, 34, 41, 49, 58, 64)
ROWS = Rows(
    torch.from_numpy(random_images(20)),
    torch.arange(20) % 10,
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "aquarium_fish_tank", "ship", "truck"),
    "cifar10/test",
)


def test_every_network_has_a_colour_of_its_own() -> None:
    colours = [OURS, OTHER[1], *(colour for _, colour in (*CONTROLS, *METHODS.values()))]
    assert len(set(colours)) == len(colours)


def evaluation(budgets: int = 6, model: str = "cifar10-fusion@7") -> Evaluation:
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
            saturated=mean > 35,
        )
        for mean in np.linspace(16, 45, budgets)
    )
    family = tuple(
        CurvePoint(mean_flops=mean * 1e6, accuracy=0.95 - (60 - mean) / 900) for mean in range(16, 57)
    )
    first = tuple(Leaver(row=i, exit=1, confidence=1 - i / 1000, label=i, predicted=i) for i in range(6))
    last = tuple(Leaver(row=9 + i, exit=5, confidence=0.2 + i / 10, label=7, predicted=i) for i in range(3))
    return Evaluation(
        model=model,
        rows="cifar10/test",
        count=20,
        policy="0123456789ab",
        exits=exits,
        budgets=results,
        limits=(),
        geometric=(family,),
        leavers=Leavers(budget=20e6, first=first, last=last),
    )


def panel(figure: Figure, name: str) -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(name)]
    return found


def legend_labels(figure: Figure) -> list[str]:
    (legend,) = [legend for part in figure.subfigs for legend in part.legends]
    return [text.get_text() for text in legend.get_texts()]


def texts_of(figure: Figure) -> list[str]:
    return [part.get_text() for part in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_the_picture_is_a_png_twice_as_wide_as_a_readme(tmp_path: Path) -> None:
    save_plot(evaluation(), "cifar10", tmp_path / "out.png", rows=ROWS)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG" and picture.size == (1800, 1368)
        assert picture.convert("RGB").getpixel((2, 700)) == (255, 255, 255)


@pytest.mark.parametrize("task", ["cifar10", "cifar100"])
def test_every_published_method_of_the_task_is_in_the_legend_after_ours_and_the_control(task: str) -> None:
    labels = legend_labels(plot(evaluation(), task, [evaluation(model="cifar10-msdnet@1")]))
    assert labels[0] == "ours: cifar10-fusion@7" and "control cifar10-msdnet@1" in labels
    assert {curve.label for curve in PUBLISHED[task]} == set(labels[4:])


def test_every_published_point_is_drawn_in_the_panel_of_its_kind() -> None:
    figure = plot(evaluation(), "cifar10")
    for name, budgeted in (("Anytime", False), ("Budgeted", True)):
        axes = panel(figure, name)
        drawn = {tuple(point) for line in axes.lines for point in line.get_xydata().tolist()}
        points = [p for curve in PUBLISHED["cifar10"] if curve.budgeted == budgeted for p in curve.points]
        assert drawn.issuperset(points) and max(points)[0] < axes.get_xlim()[1]


def test_a_task_without_published_points_is_drawn_alone() -> None:
    assert all(label.startswith("ours") for label in legend_labels(plot(evaluation(), "flowers")))


def test_our_curve_shows_realised_means_in_millions_and_accuracy_in_percent() -> None:
    shown = evaluation()
    lines = panel(plot(shown, "cifar10"), "Budgeted").lines
    (line,) = [line for line in lines if str(line.get_label()).startswith("ours: ")]
    assert line.get_xdata() == pytest.approx([budget.mean_flops / 1e6 for budget in shown.budgets])
    assert line.get_ydata() == pytest.approx([100 * budget.accuracy for budget in shown.budgets])


def test_anytime_charges_all_earlier_heads_as_papers_do_and_shows_direct_costs_beside() -> None:
    lines = panel(plot(evaluation(), "cifar10"), "Anytime").lines
    costs = {str(line.get_label()): line.get_xdata() for line in lines}
    assert costs["ours: cifar10-fusion@7"] == pytest.approx(DENSE)
    assert costs["ours, only that exit's head"] == pytest.approx(DIRECT)


def test_a_control_has_both_curves() -> None:
    figure = plot(evaluation(), "cifar10", [evaluation(model="other@1")])
    for name in ("Anytime", "Budgeted"):
        assert "control other@1" in [line.get_label() for line in panel(figure, name).lines]


def test_more_controls_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="room for 3 controls, got 4"):
        plot(evaluation(), "cifar10", [evaluation()] * 4)


def test_no_legend_and_no_caption_lies_over_the_data_or_outside_the_picture() -> None:
    figure = plot(evaluation(), "cifar10", [evaluation(model="cifar10-msdnet@1")], ROWS)
    figure.draw_without_rendering()
    panels = [axes.get_window_extent() for axes in figure.axes]
    legends = [legend for part in figure.subfigs for legend in part.legends]
    legends += [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    captions = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label) if text.get_text()]
    assert len(legends) == 2 and len(captions) == 3 + 2 * 9
    for box in [artist.get_window_extent() for artist in (*legends, *captions)]:
        assert not any(box.overlaps(panel) for panel in panels)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1800 and box.y1 <= 1368


def test_the_heading_names_the_artifact_the_rows_and_how_many() -> None:
    assert "cifar10-fusion@7 on cifar10/test, n = 20" in texts_of(plot(evaluation(), "cifar10"))


def test_images_that_leave_first_and_last_carry_their_class_and_the_answer() -> None:
    texts = texts_of(plot(evaluation(), "cifar10", rows=ROWS))
    assert "Leave first at 20 M: surest at exit 1 (confidence 0.99 to 1.00)" in texts
    assert "Leave last at 20 M: least sure at exit 5 (confidence 0.20 to 0.40)" in texts
    assert {"✓ airplane", "✗ airplane", "✗ bird", "aquarium fi…"} <= set(texts)


def test_without_rows_there_are_no_images() -> None:
    assert not any(axes.images for axes in plot(evaluation(), "cifar10").axes)


def test_only_exits_where_images_leave_are_named_beside_the_shares() -> None:
    legend = panel(plot(evaluation(), "cifar10"), "Where").get_legend()
    assert legend is not None
    assert sorted(text.get_text() for text in legend.get_texts()) == ["exit 1", "exit 2", "exit 5"]


def test_shares_end_soon_after_the_policys_curve() -> None:
    shown = evaluation(30)
    far = shown.budgets[-1].model_copy(update={"budget": 200e6})
    axes = panel(plot(shown.model_copy(update={"budgets": (*shown.budgets, far)}), "cifar10"), "Where")
    assert axes.get_xlim() == pytest.approx((16, 1.15 * 36))


@pytest.mark.parametrize("budgets", [0, 1])
def test_few_or_no_budgets_can_be_drawn(budgets: int, tmp_path: Path) -> None:
    bare = evaluation(budgets).model_copy(update={"leavers": None, "geometric": ()})
    save_plot(bare, "cifar10", tmp_path / "out.png", rows=ROWS)
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_drawing_leaves_no_global_figure_behind() -> None:
    plot(evaluation(), "cifar10")
    assert Gcf.get_num_fig_managers() == 0


def test_published_points_rise_in_flops_and_name_their_source() -> None:
    for curves in PUBLISHED.values():
        for curve in curves:
            assert list(curve.points) == sorted(curve.points)
            assert "arXiv:" in curve.paper.citation or "HAL hal-" in curve.paper.citation


def test_budgets_cover_every_mean_at_which_more_than_one_method_is_published() -> None:
    means = {x for curves in PUBLISHED.values() for c in curves if c.budgeted for x, _ in c.points}
    assert {budget / 1e6 for budget in BUDGETS} == means - {22.5}
