"""Budgets replayed over thousands of rows: the ledger must hold them on traffic of any kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import small_net

from model_store.flops import count_stages
from model_store.policy import Policy, make_plan
from model_store.training.calibrate import calibrate
from model_store.training.replay import replay
from model_store.training.scores import Scores

STAGES = count_stages(small_net(), 32, 32)


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
    assert flops.mean() >= 0.985 * budget


@pytest.mark.parametrize("way", [0.2, 0.5, 0.8])
def test_on_traffic_like_the_calibration_rows_a_budget_is_met_and_used(fitted: Policy, way: float) -> None:
    low, high = fitted.segments[0].costs[0], fitted.segments[-1].costs[-1]
    budget = low + way * (high - low)
    assert 0.99 * budget <= spent(fitted, made_scores(9000, 9), budget).mean() <= budget


def test_a_budget_beyond_the_curve_spends_no_more_than_its_last_entry(fitted: Policy) -> None:
    last = fitted.segments[-1].costs[-1]
    assert spent(fitted, made_scores(4000, 11), 3 * last).mean() == pytest.approx(last, rel=0.03)
