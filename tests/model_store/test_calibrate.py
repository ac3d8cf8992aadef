"""Calibration against known optima, against brute force, and against the geometric family."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import STAGES, scores

from model_store.flops import StageFlops, direct_flops
from model_store.policy import AIM, path_flops
from model_store.training import report as reports
from model_store.training.calibrate import Calibration, calibrate
from model_store.training.ensembles import running
from model_store.training.geometric import RATIOS, geometric_thresholds
from model_store.training.scores import Scores
from model_store.training.stopping import Answers, Stopping, apply, leave_at
from model_store.training.table import densify, rise_end


@pytest.fixture(scope="module")
def held_out() -> tuple[Scores, Scores]:
    return scores(1500, 1), scores(1500, 2)


@pytest.fixture(scope="module")
def calibration(held_out: tuple[Scores, Scores]) -> Calibration:
    return calibrate(*held_out, STAGES)


def martingale(rows: int, exits: int, seed: int = 0) -> Answers:
    """Calibrated confidences in which each exit closes a uniform share of the gap to certainty."""
    random = np.random.default_rng(seed)
    confidence = np.empty((exits, rows))
    confidence[0] = random.uniform(0, 1, rows)
    for k in range(1, exits):
        confidence[k] = confidence[k - 1] + (1 - confidence[k - 1]) * random.uniform(0, 1, rows)
    return Answers(confidence, random.uniform(0, 1, (exits, rows)) < confidence)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_the_threshold_is_where_going_on_stops_paying(threshold: float) -> None:
    # Going on gains (1 - c) / 2 on average and costs the price of a step: it pays up to c = 1 - 2 * price *
    # step.
    step = STAGES[1].block + STAGES[1].head
    prices = np.array([(1 - threshold) / 2 / step])
    found = Stopping(martingale(40_000, 2), STAGES, prices).thresholds((0, 1))
    assert found[0, 0] == pytest.approx(threshold, abs=0.06)


@pytest.mark.parametrize("price", [1e-8, 2e-8, 4e-8])
def test_optimal_stopping_is_as_good_as_a_brute_force_over_thresholds(price: float) -> None:
    exits, fresh = (0, 1, 3), martingale(20_000, 4, seed=5)
    found = Stopping(martingale(20_000, 4), STAGES, np.array([price])).thresholds(exits)
    grid = np.array(np.meshgrid(np.linspace(0, 1, 26), np.linspace(0, 1, 26))).reshape(2, -1).T

    def worth(thresholds: np.ndarray) -> np.ndarray:
        outcome = apply(fresh, exits, thresholds, STAGES)
        return outcome.correct.mean(axis=1) - price * outcome.mean_flops

    assert worth(found)[0] >= worth(grid).max() - 0.003


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.integers(1, 30))
def test_thresholds_only_rise_when_the_price_falls(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.integers(0, levels, (4, 60)) / levels
    answers = Answers(confidence, random.uniform(size=(4, 60)) < 0.3 + 0.6 * confidence)
    stopping = Stopping(answers, STAGES, np.geomspace(1e-6, 1e-11, 30))
    for exits in ((0, 1), (0, 2, 3), (0, 1, 2, 3)):
        table = densify(answers, exits, stopping.thresholds(exits), step=0.05)
        assert (np.diff(table, axis=0) >= 0).all() and (
            np.diff(stopping.thresholds(exits), axis=0) >= 0
        ).all()
        assert (np.diff(apply(answers, exits, table, STAGES).mean_flops) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_row_leaves_at_the_first_consulted_exit_that_is_sure_enough(seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = Answers(random.uniform(size=(4, 20)), random.uniform(size=(4, 20)) < 0.7)
    exits, thresholds = (0, 2, 3), random.uniform(size=(5, 2))
    costs = path_flops(STAGES, exits)
    outcome = apply(answers, exits, thresholds, STAGES)
    for p, row in enumerate(thresholds):
        naive = [next((j for j in (0, 1) if answers.confidence[exits[j], n] >= row[j]), 2) for n in range(20)]
        assert leave_at(answers, exits, thresholds)[p].tolist() == naive
        assert outcome.mean_flops[p] == pytest.approx(sum(costs[j] for j in naive) / 20, rel=1e-12)
        assert outcome.correct[p].tolist() == [answers.correct[exits[j], n] for n, j in enumerate(naive)]


def test_the_first_entry_lets_every_image_leave_at_the_first_exit(calibration: Calibration) -> None:
    first = calibration.policy.segments[0].entries[0]
    assert first.mean_flops == direct_flops(STAGES)[0] == 11_000_000
    assert set(first.thresholds) == {0.0} and first.shares[0] == 1.0


def test_thresholds_and_means_of_a_segment_rise_in_small_steps(calibration: Calibration) -> None:
    for segment in calibration.policy.segments:
        for lower, upper in pairwise(segment.entries):
            assert all(a <= b for a, b in zip(lower.thresholds, upper.thresholds, strict=True))
            assert lower.mean_flops < upper.mean_flops <= 1.0105 * lower.mean_flops
        assert len(segment.entries) < 200


def test_entries_tell_mean_shares_and_accuracy_to_the_digit(
    calibration: Calibration, held_out: tuple[Scores, Scores]
) -> None:
    policy, both = calibration.policy, held_out[0].joined(held_out[1])
    for segment in policy.segments:
        exits = [k - 1 for k in segment.exits]
        costs = path_flops(STAGES, exits)
        confidence = both.confidence(policy.confidence, policy.temperatures)[exits]
        for entry in segment.entries[:: max(1, len(segment.entries) // 5)]:
            limits = (*entry.thresholds, -1.0)
            left = [next(j for j, t in enumerate(limits) if column[j] >= t) for column in confidence.T]
            assert entry.mean_flops == pytest.approx(sum(costs[j] for j in left) / len(left), rel=1e-12)
            assert entry.shares == pytest.approx([left.count(j) / len(left) for j in range(len(exits))])
            check = [both.correct[exits[j], n] for n, j in enumerate(left)][len(held_out[0]) :]
            assert entry.accuracy == pytest.approx(sum(check) / len(check), rel=1e-12)


def test_our_curve_is_not_below_the_geometric_family_beyond_noise(calibration: Calibration) -> None:
    for baseline in calibration.report.baselines:
        gains = [point.ours - point.theirs for point in baseline.compared]
        errors = [point.standard_error for point in baseline.compared]
        assert all(gain >= -2 * error for gain, error in zip(gains, errors, strict=True))
        assert np.mean(gains) >= 0


def test_with_the_published_costs_our_curve_is_clearly_above_the_geometric_family() -> None:
    # Heads that cost something and help little: the published family consults and pays all of them.
    costly = tuple(StageFlops(stage.block, 4_000_000) for stage in STAGES)
    held_out = [scores(1000, seed, (3.0, 3.1, 3.2, 4.2)) for seed in (1, 2)]
    compared = calibrate(*held_out, costly).report.baselines[0].compared
    assert max(point.ours - point.theirs - 3 * point.standard_error for point in compared) > 0


def test_exits_that_do_not_help_are_not_paid_for() -> None:
    held_out = [scores(800, seed, (3.0, 4.2, 4.2, 4.2)) for seed in (1, 2)]
    same = [Scores(s.logits[[0, 1, 1]], s.labels, s.source, (0, 1, 2)) for s in held_out]
    policy = calibrate(*same, STAGES[:3]).policy
    assert policy.segments[-1].entries[-1].mean_flops <= path_flops(STAGES, (0, 1))[-1]


def test_where_the_first_exit_is_always_right_nothing_else_is_spent() -> None:
    easy = [scores(400, seed, (40.0, 41.0, 42.0, 43.0)) for seed in (1, 2)]
    policy = calibrate(*easy, STAGES).policy
    assert [entry.mean_flops for segment in policy.segments for entry in segment.entries] == [11_000_000]
    assert policy.default_flops >= 11_000_000


def test_the_default_budget_is_cheap_and_close_to_the_best(calibration: Calibration) -> None:
    policy = calibration.policy
    best = max(accuracy for _, accuracy in policy.curve())
    segment = policy.segment_for(policy.default_flops)
    assert segment.accuracy_at(policy.default_flops * AIM) >= best - 0.005
    assert policy.default_flops * AIM <= policy.segments[-1].entries[-1].mean_flops


def test_calibration_is_deterministic_and_counts_its_steps(held_out: tuple[Scores, Scores]) -> None:
    small = [Scores(s.logits[:3, :150], s.labels[:150], s.source, (0, 1, 2)) for s in held_out]
    steps: list[tuple[int, int]] = []
    once = calibrate(*small, STAGES[:3], lambda done, of: steps.append((done, of)))
    assert once == calibrate(*small, STAGES[:3])
    assert steps[-1][0] == steps[-1][1] and len(steps) == steps[-1][1]
    assert reports.CalibrationReport.model_validate_json(once.report.model_dump_json()) == once.report


def test_scores_that_lack_an_exit_are_refused(held_out: tuple[Scores, Scores]) -> None:
    lacking = Scores(held_out[0].logits[:3], held_out[0].labels, "lacking", (0, 1, 2))
    with pytest.raises(ValueError, match="all 4 exits"):
        calibrate(lacking, lacking, STAGES)


def test_a_curve_ends_where_it_stops_rising_even_if_it_falls_later() -> None:
    means = np.linspace(10e6, 20e6, 101)
    noise = np.random.default_rng(0).normal(0, 2e-4, 101)
    rising = np.interp(means, [10e6, 14e6, 16e6, 20e6], [0.90, 0.94, 0.94, 0.92])
    assert means[rise_end(means, rising + noise)] == pytest.approx(14e6, rel=0.03)


def test_the_geometric_family_fills_exits_in_proportion_to_the_powers_of_q(
    held_out: tuple[Scores, Scores],
) -> None:
    answers = Answers.of(held_out[0], "probability")
    thresholds = geometric_thresholds(answers, range(4))
    shares = apply(answers, range(4), thresholds, STAGES).shares
    wanted = RATIOS[:, None] ** np.arange(1, 5)
    assert shares == pytest.approx(wanted / wanted.sum(axis=1, keepdims=True), abs=0.003)


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    logits = torch.tensor([[[0.0, np.log(3.0)]] * 4], dtype=torch.float32)  # always 75 % for class 1
    three_right = Scores(logits, torch.tensor([1, 1, 1, 0]), "x", (0,))
    one_right = Scores(logits, torch.tensor([1, 0, 0, 0]), "x", (0,))
    assert reports.calibration_errors(three_right) == pytest.approx((0.0,), abs=1e-6)
    assert reports.calibration_errors(one_right) == pytest.approx((0.5,), abs=1e-6)


def test_the_report_compares_ensembles_with_the_exits_own_answers(calibration: Calibration) -> None:
    own, *others = calibration.report.ensembles
    assert own.ensemble == "none" and own.gain == 0 and len(others) == 4
    assert all(one.accuracy == pytest.approx(own.accuracy + one.gain) for one in others)


def test_an_ensemble_of_two_is_the_mean_of_both() -> None:
    logits = torch.tensor([[[0.0, 0.0]], [[0.0, np.log(3.0)]]])
    told = {kind: running(logits, [1.0, 1.0], kind)[1, 0, 1].item() for kind in reports.ENSEMBLES}
    root = np.sqrt(3.0)
    expected = {"none": 3 / 4, "probabilities": 5 / 8, "logits": root / (1 + root), "scaled": 5 / 8}
    assert told == pytest.approx({**expected, "deeper": 2 / 3})
