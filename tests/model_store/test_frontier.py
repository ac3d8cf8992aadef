"""Accuracy against time: what is timed, what an image is charged, and what the figure shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_images, small_net, small_policy
from PIL import Image

from model_store.flops import count_stages
from model_store.nets.staged import Features, Span
from model_store.training.data import Rows
from model_store.training.evaluate import evaluate
from model_store.training.frontier import Contestant, Frontier, frontier, launch_times, paired, timed
from model_store.training.frontier_plot import STYLES, plot_frontier, save_frontier
from model_store.training.scores import EagerRunner, collect_path

ROWS = Rows(torch.from_numpy(random_images(40)), torch.arange(40) % 10, tuple("abcdefghij"), "made/test")


class Recorder:
    """A runner that notes what it launches."""

    def __init__(self, runner: EagerRunner) -> None:
        self._runner = runner
        self.launched: list[tuple[Span, int]] = []

    def run(self, span: Span, features: Features) -> tuple[Features, torch.Tensor]:
        self.launched.append((span, len(features[0])))
        return self._runner.run(span, features)


def contestant(seed: int = 0, model: str = "small@1") -> Contestant:
    net = small_net(seed)
    stages, policy = count_stages(net, 32, 32), small_policy(net)
    runner = Recorder(EagerRunner(net, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    middle = policy.segments[0].entries[10].mean_flops
    result = evaluate(runner, stages, policy, ROWS, [middle], model=model)
    scores = collect_path(runner, range(4), ROWS)
    runner.launched.clear()
    return Contestant(runner, stages, policy, result, scores)


@pytest.fixture(scope="module")
def measured() -> Frontier:
    pair = [contestant(), contestant(1, "other@2")]
    return frontier(pair, ROWS.images, (1, 4), 2, device="CPU", threads=1)


def test_every_exit_alone_and_every_span_of_a_budget_is_timed_at_every_batch_size() -> None:
    one = contestant()
    assert one.spans() == [Span(0, 0), Span(0, 1), Span(0, 2), Span(0, 3), Span(1, 1), Span(2, 3)]
    (times,) = launch_times([one], ROWS.images, (1, 4), rounds=3)
    assert list(times) == one.spans() and all(min(at) > 0 and len(at) == 2 for at in times.values())
    assert isinstance(one.runner, Recorder)
    for span in one.spans():
        at_four = [seen for seen in one.runner.launched if seen == (span, 4)]
        assert len(at_four) == 3 + 1 + ((span.first == 0) and Span(span.last + 1, 3) in one.spans()) + (
            span == Span(0, 0)
        )


def test_contestants_take_turns() -> None:
    first, second = contestant(), contestant(1)
    turns: list[int] = []
    for number, one in enumerate((first, second)):
        run = one.runner.run
        object.__setattr__(
            one.runner, "run", lambda span, x, run=run, n=number: (turns.append(n), run(span, x))[1]
        )
    launch_times([first, second], ROWS.images, (2,), rounds=2)
    assert turns[-4 * 6 :] == [0] * 6 + [1] * 6 + [0] * 6 + [1] * 6


def test_an_image_under_a_budget_takes_its_share_of_the_launches_that_it_reaches() -> None:
    one = contestant()
    times = {span: (10.0 * (span.last - span.first + 1), 40.0) for span in one.spans()}
    (budget,) = timed(one, times, (1, 4)).budgets
    shares = one.evaluation.budgets[0].shares
    assert sum(shares[1:]) > 0
    wanted = 10 + 10 * sum(shares[1:]) + 20 * sum(shares[2:])
    assert budget.milliseconds[0] == pytest.approx(wanted)
    assert budget.milliseconds[1] == pytest.approx(10 * (1 + sum(shares[1:]) + sum(shares[2:])))


def test_an_exit_alone_takes_one_launch() -> None:
    one = contestant()
    times = {span: (float(span.last + 1), 8.0) for span in one.spans()}
    found = timed(one, times, (1, 4)).exits
    assert [point.milliseconds for point in found] == [(k, 2.0) for k in (1.0, 2.0, 3.0, 4.0)]
    assert [point.accuracy for point in found] == [spec.accuracy for spec in one.evaluation.exits]


def test_exits_are_compared_row_by_row_with_the_first_model(measured: Frontier) -> None:
    first, other = contestant(), contestant(1, "other@2")
    assert [(row.model, row.against, row.exit) for row in measured.paired] == [
        ("other@2", "small@1", k) for k in (1, 2, 3, 4)
    ]
    for k, row in enumerate(paired([first, other])):
        difference = other.scores.correct[k].astype(int) - first.scores.correct[k]
        assert row.gain == pytest.approx(difference.mean())
        assert row.standard_error == pytest.approx(np.std(difference) / np.sqrt(len(ROWS)))


def test_the_figure_has_a_panel_for_each_batch_size_and_both_curves_of_each_model(
    measured: Frontier, tmp_path: Path
) -> None:
    figure = plot_frontier(measured)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Batches of 1", "Batches of 4"]
    for axes in figure.axes:
        assert [line.get_label().split(",")[0] for line in axes.get_lines()] == ["small@1"] * 2 + [
            "other@2"
        ] * 2
    save_frontier(measured, tmp_path / "frontier.png")
    with Image.open(tmp_path / "frontier.png") as picture:
        assert picture.width == 1800


def test_more_models_than_the_figure_can_tell_apart_are_refused(measured: Frontier) -> None:
    many = measured.model_copy(update={"models": measured.models[:1] * (len(STYLES) + 1)})
    with pytest.raises(ValueError, match="room for 4 models, got 5"):
        plot_frontier(many)
