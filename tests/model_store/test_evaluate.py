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
from model_store.training.evaluate import Evaluation, evaluate, outcomes
from model_store.training.replay import replay
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


def made_scores(count: int, seed: int, harder: float = 0.0) -> Scores:
    """Four exits of which the deeper ones are surer and more often right; ``harder`` lowers both."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count)
    easiness = 1.5 * random.standard_normal(count) - harder
    logits = random.standard_normal((4, count, 10)).astype(np.float32)
    for k, signal in enumerate((3.0, 3.6, 4.0, 4.3)):
        logits[k][np.arange(count), labels] += signal + easiness
    return Scores(torch.from_numpy(1.6 * logits), torch.from_numpy(labels), f"made{seed}", (0, 1, 2, 3))


@pytest.fixture(scope="module")
def fitted() -> Policy:
    return calibrate(made_scores(1000, 1), made_scores(1000, 2), STAGES).policy


def spent(policy: Policy, scores: Scores, budget: float) -> np.ndarray:
    plan = make_plan(policy, STAGES, budget, None)
    logits = scores.logits[list(plan.exits)]
    return replay(plan, Scores(logits, scores.labels, scores.source, plan.exits), policy).flops


@pytest.mark.parametrize("way", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("harder", [0.5, 1.5, 3.0])
def test_no_window_of_5000_images_exceeds_the_budget_on_harder_traffic(
    fitted: Policy, way: float, harder: float
) -> None:
    low, high = fitted.segments[0].costs[0], fitted.segments[-1].costs[-1]
    budget = low + way * (high - low)
    flops = spent(fitted, made_scores(9000, 7, harder), budget)
    total = np.concatenate([[0], np.cumsum(flops)])
    assert (total[5000:] - total[:-5000]).max() <= 5000 * budget
    assert flops.mean() >= 0.93 * budget


@pytest.mark.parametrize("way", [0.2, 0.5, 0.8])
def test_on_traffic_like_the_calibration_rows_a_budget_is_met_and_used(fitted: Policy, way: float) -> None:
    low, high = fitted.segments[0].costs[0], fitted.segments[-1].costs[-1]
    budget = low + way * (high - low)
    assert 0.95 * budget <= spent(fitted, made_scores(9000, 9), budget).mean() <= budget


def test_a_budget_beyond_the_curve_spends_no_more_than_its_last_entry(fitted: Policy) -> None:
    last = fitted.segments[-1].costs[-1]
    assert spent(fitted, made_scores(4000, 11), 3 * last).mean() == pytest.approx(last, rel=0.03)
