"""Evaluation must answer as the service does, image by image, and the ledger must hold the budget."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np
import pytest
import torch
from conftest import random_images, small_net, small_policy

from model_store.flops import count_stages, dense_flops, direct_flops
from model_store.ledger import Ledger
from model_store.nets.staged import Features, Span, StagedNet
from model_store.policy import Policy, PolicySegment, UnaffordableError, make_plan
from model_store.training.calibrate import calibrate
from model_store.training.data import Rows
from model_store.training.evaluate import evaluate, even_budgets, outcomes, saturation
from model_store.training.results import Evaluation
from model_store.training.scores import EagerRunner, Scores, collect_path

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
NET = small_net()
STAGES = count_stages(NET, 32, 32)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small batches on a busy machine are many times faster without a second thread to wait for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows() -> Rows:
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 10, 60))
    return Rows(torch.from_numpy(random_images(60)), labels, tuple("abcdefghij"), "made/test")


@pytest.fixture(scope="module")
def runner() -> EagerRunner:
    return EagerRunner(NET, MEAN, STD)


def hand_run(net: StagedNet, rows: Rows, policy: Policy, mean: float) -> list[tuple[int, int, int]]:
    """Each image alone through the unfolded network, asking the ledger as the service does."""
    plan, ledger, told = make_plan(policy, STAGES, mean, None), Ledger(), []
    for image in rows.images:
        x = (image[None].float() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(
            1, 3, 1, 1
        )
        with torch.inference_mode():
            logits = net(x)
        ledger.arrive(mean, plan.costs[0])
        for position, k in enumerate(plan.exits):
            sure = float(logits[k].softmax(1).max()) >= ledger.thresholds(plan)[position]
            last = position + 1 == len(plan.exits)
            if last or sure or not ledger.draw(mean, plan.costs[position + 1] - plan.costs[position]):
                told.append((int(logits[k].argmax()), k + 1, plan.costs[position]))
                break
    return told


@pytest.fixture(scope="module")
def policy(runner: EagerRunner, rows: Rows) -> Policy:
    """Thresholds at quantiles of these rows' confidences; made-up means give the ledger work to do."""
    made = small_policy(NET)
    confidence = collect_path(runner, (0, 1), rows).confidence("probability")
    entries = tuple(
        entry.model_copy(
            update={"thresholds": tuple(np.quantile(confidence, i / 20 * 0.99, axis=1).tolist())}
        )
        for i, entry in enumerate(made.segments[0].entries)
    )
    return made.model_copy(update={"segments": (PolicySegment(exits=(1, 2, 4), entries=entries),)})


@pytest.mark.parametrize("way", [0.1, 0.5, 0.9])
def test_outcomes_are_those_of_every_image_run_alone(
    runner: EagerRunner, rows: Rows, policy: Policy, way: float
) -> None:
    low, high = policy.segments[0].costs[0], policy.segments[0].costs[-1]
    mean = low + way * (high - low)
    found = outcomes(runner, STAGES, policy, rows, mean=mean, batch_size=7)
    assert [tuple(outcome) for outcome in found] == hand_run(NET, rows, policy, mean)
    assert len({outcome.exit for outcome in found}) > 1


def test_a_path_gives_the_logits_of_the_network_at_its_exits(runner: EagerRunner, rows: Rows) -> None:
    with torch.inference_mode():
        expected = NET((rows.images.float() / 255 - 0.5) / 0.25)
    for exits in ((0, 1, 2, 3), (1, 3), (2,)):
        scores = collect_path(runner, exits, rows, batch_size=16)
        assert scores.exits == exits and scores.logits.dtype == torch.float32
        for logits, k in zip(scores.logits, exits, strict=True):
            torch.testing.assert_close(logits, expected[k], rtol=1e-3, atol=1e-3)


class Counting:
    """A runner that notes the spans it is asked for and hands out constant logits."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def run(self, span: Span, features: Features) -> tuple[Features, torch.Tensor]:
        assert span.first > 0 or features[0].dtype == torch.uint8
        self.spans.append(span)
        return features, torch.zeros(len(features[0]), 10)


def test_a_path_runs_the_spans_between_its_exits_and_tells_its_progress(rows: Rows) -> None:
    counting, told = Counting(), []
    collect_path(counting, (1, 3), rows, 25, lambda done, of: told.append((done, of)))
    assert counting.spans == [Span(0, 1), Span(2, 3)] * 3
    assert told == [(25, 60), (50, 60), (60, 60)]


@pytest.mark.parametrize("exits", [(), (2, 1), (1, 1)])
def test_a_path_that_does_not_rise_is_refused(
    runner: EagerRunner, rows: Rows, exits: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="in depth order"):
        collect_path(runner, exits, rows)


def test_scores_whose_shapes_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="do not hold 2 exits"):
        Scores(torch.zeros(2, 5, 10), torch.zeros(4, dtype=torch.int64), "x", (0, 1))


@pytest.fixture(scope="module")
def evaluation(runner: EagerRunner, rows: Rows, policy: Policy) -> Evaluation:
    held_out = collect_path(runner, range(4), rows)
    report = calibrate(held_out, held_out, STAGES).report
    costs = policy.segments[0].costs
    return evaluate(
        runner,
        STAGES,
        policy,
        rows,
        [costs[4], costs[12]],
        [direct_flops(STAGES)[2] + 5, inf],
        report.baselines,
        16,
    )


def test_an_evaluation_agrees_with_the_outcomes(
    runner: EagerRunner, rows: Rows, policy: Policy, evaluation: Evaluation
) -> None:
    for result in evaluation.budgets:
        found = outcomes(runner, STAGES, policy, rows, mean=result.budget)
        right = [o.label_index == label for o, label in zip(found, rows.labels.tolist(), strict=True)]
        assert result.accuracy == pytest.approx(sum(right) / len(rows))
        assert result.mean_flops == pytest.approx(sum(o.flops for o in found) / len(rows), rel=1e-12)
        assert result.shares == pytest.approx([sum(o.exit == k for o in found) / 60 for k in (1, 2, 3, 4)])


def test_an_evaluation_tells_what_every_exit_reaches_and_costs(
    runner: EagerRunner, rows: Rows, evaluation: Evaluation
) -> None:
    right = collect_path(runner, range(4), rows).correct.mean(axis=1)
    assert [spec.accuracy for spec in evaluation.exits] == pytest.approx(right.tolist())
    assert tuple(spec.direct_flops for spec in evaluation.exits) == direct_flops(STAGES)
    assert tuple(spec.dense_flops for spec in evaluation.exits) == dense_flops(STAGES)


def test_a_limit_is_met_by_the_deepest_exit_that_fits(evaluation: Evaluation) -> None:
    assert [(limit.exit, limit.flops) for limit in evaluation.limits] == [
        (3, direct_flops(STAGES)[2]),
        (4, direct_flops(STAGES)[3]),
    ]


def test_outcomes_under_a_limit_all_leave_at_its_exit(
    runner: EagerRunner, rows: Rows, policy: Policy
) -> None:
    limit = direct_flops(STAGES)[2] + 5.0
    found = outcomes(runner, STAGES, policy, rows, limit=limit)
    answers = collect_path(runner, [2], rows).predictions[0].tolist()
    assert [tuple(outcome) for outcome in found] == [(k, 3, direct_flops(STAGES)[2]) for k in answers]


def test_outcomes_under_a_budget_and_a_limit_keep_to_the_limit(
    runner: EagerRunner, rows: Rows, policy: Policy
) -> None:
    mean = policy.segments[0].costs[12]
    within = make_plan(policy, STAGES, mean, None).costs[1]
    capped = outcomes(runner, STAGES, policy, rows, mean=mean, limit=within)
    assert max(outcome.flops for outcome in capped) <= within


def test_the_first_to_leave_are_the_surest_and_the_last_the_least_sure(
    runner: EagerRunner, rows: Rows, policy: Policy, evaluation: Evaluation
) -> None:
    shown = evaluation.leavers
    assert shown is not None and shown.budget in [result.budget for result in evaluation.budgets]
    found = outcomes(runner, STAGES, policy, rows, mean=shown.budget)
    for leaver in (*shown.first, *shown.last):
        assert (leaver.predicted, leaver.exit) == found[leaver.row][:2]
        assert leaver.label == rows.labels[leaver.row]
    exits = [outcome.exit for outcome in found]
    assert {leaver.exit for leaver in shown.first} == {min(exits)}
    assert {leaver.exit for leaver in shown.last} == {max(exits)}
    scores = collect_path(runner, range(4), rows).confidence(policy.confidence)
    for side, sign in ((shown.first, -1), (shown.last, 1)):
        there = np.equal(exits, side[0].exit)
        ranked = sorted(sign * scores[side[0].exit - 1][there])[:6]
        assert [sign * leaver.confidence for leaver in side] == pytest.approx(ranked, abs=1e-5)


def test_a_budget_beyond_the_last_entry_is_called_saturated(
    runner: EagerRunner, rows: Rows, policy: Policy
) -> None:
    end = saturation(policy)
    found = evaluate(runner, STAGES, policy, rows, [0.99 * end, end, 1.01 * end])
    assert [result.saturated for result in found.budgets] == [False, False, True]


@pytest.mark.parametrize("way", [0.0, 0.3])
def test_even_budgets_are_round_and_go_just_beyond_the_curve(policy: Policy, way: float) -> None:
    low, end = policy.segments[0].costs[0], saturation(policy)
    cheapest = low + way * (end - low)
    budgets = even_budgets(policy, cheapest)
    steps = np.diff(budgets)
    assert 8 <= len(budgets) <= 24 and steps == pytest.approx(steps[0]) and f"{steps[0]:.0e}"[0] in "125"
    assert cheapest <= budgets[0] and budgets[-2] <= end < budgets[-1]


def test_the_baselines_curves_lie_beside_ours_by_rising_mean(evaluation: Evaluation) -> None:
    assert len(evaluation.geometric) == 2
    for curve in evaluation.geometric:
        means = [point.mean_flops for point in curve]
        assert means == sorted(means)


def test_an_evaluation_survives_json(evaluation: Evaluation) -> None:
    # An infinite limit is no JSON number, so it is left out here.
    finite = evaluation.model_copy(update={"limits": evaluation.limits[:1]})
    assert Evaluation.model_validate_json(finite.model_dump_json()) == finite


def test_a_budget_below_the_cheapest_exit_is_refused_before_anything_runs(rows: Rows) -> None:
    counting = Counting()
    with pytest.raises(UnaffordableError):
        evaluate(counting, STAGES, small_policy(NET), rows, [1.0])
    assert not counting.spans
