"""The ledger holds the mean of a budget level, whatever the traffic."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniform import STAGES, uniform_policy

from model_store.ledger import RESERVE, STEP, WINDOW, Ledger
from model_store.policy import AIM, Plan, make_plan


def stream(images: int, power: float, seed: int = 0) -> list[tuple[float, ...]]:
    """Confidences at three exits, uniform to ``power``: above 1 harder, below 1 easier than calibrated."""
    chance = random.Random(seed)
    return [tuple(chance.random() ** power for _ in range(3)) for _ in range(images)]


def serve(plan: Plan, images: list[tuple[float, ...]]) -> list[int]:
    """Position among the plan's exits where each image leaves."""
    ledger, left = Ledger(), []
    for confidence in images:
        ledger.arrive(plan.budget or 0, plan.costs[0])
        position = 0
        while confidence[position] < ledger.thresholds(plan)[position]:
            if not ledger.draw(plan.budget or 0, plan.costs[position + 1] - plan.costs[position]):
                break
            position += 1
        left.append(position)
    return left


def spending(plan: Plan, images: list[tuple[float, ...]]) -> list[int]:
    """FLOPs of each image."""
    return [plan.costs[position] for position in serve(plan, images)]


def nominal(plan: Plan, images: list[tuple[float, ...]]) -> list[int]:
    """Where each image would leave by the plan's own thresholds."""
    return [next(j for j, t in enumerate(plan.thresholds) if confidence[j] >= t) for confidence in images]


def windows(spent: list[int], size: int) -> list[float]:
    """Mean of every window of ``size`` images after the first 500."""
    total, means = sum(spent[500 : 500 + size]), []
    for start in range(500, len(spent) - size):
        means.append(total / size)
        total += spent[start + size] - spent[start]
    return means


def differing(some: list[int], others: list[int]) -> float:
    """Share of places where two lists differ."""
    return sum(a != b for a, b in zip(some, others, strict=True)) / len(some)


@pytest.mark.parametrize("budget", [16, 18, 25, 35])
@pytest.mark.parametrize("power", [1, 1.5, 4, 1000])
def test_no_window_of_5000_images_exceeds_the_budget_however_hard_the_images(
    budget: float, power: float
) -> None:
    spent = spending(make_plan(uniform_policy(), STAGES, budget, None), stream(12_000, power))
    means = windows(spent, 5_000)
    assert max(means) <= budget
    assert min(means) >= 0.98 * budget


@pytest.mark.parametrize("budget", [15.5, 16, 18, 25, 35])
@pytest.mark.parametrize("power", [0.9, 1, 1.1])
def test_over_10000_images_a_budget_is_met_to_one_per_cent_though_calibration_errs(
    budget: float, power: float
) -> None:
    plan = make_plan(uniform_policy(), STAGES, budget, None)
    for seed in range(3):
        assert 0.99 * budget <= sum(spending(plan, stream(10_000, power, seed))) / 10_000 <= budget


@pytest.mark.parametrize("budget", [18, 25, 35])
def test_easy_images_get_the_flops_that_are_left_over(budget: float) -> None:
    spent = spending(make_plan(uniform_policy(), STAGES, budget, None), stream(30_000, 0.5))
    assert 0.98 * budget <= sum(spent[10_000:]) / 20_000 <= budget


@pytest.mark.parametrize("budget", [16, 18, 25, 35])
def test_on_calibrated_traffic_the_ledger_changes_few_decisions(budget: float) -> None:
    plan = make_plan(uniform_policy(), STAGES, budget, None)
    shares = [
        differing(serve(plan, images), nominal(plan, images))
        for images in (stream(10_000, 1, seed) for seed in range(4))
    ]
    assert max(shares) <= 0.03


@pytest.mark.parametrize("budget", [16, 18, 25, 35])
def test_images_that_arrive_a_little_out_of_order_leave_where_they_would_have(budget: float) -> None:
    plan, images, chance = (
        make_plan(uniform_policy(), STAGES, budget, None),
        stream(10_000, 1),
        random.Random(1),
    )
    order = sorted(range(len(images)), key=lambda i: i + 16 * chance.random())
    late, punctual = serve(plan, [images[i] for i in order]), serve(plan, images)
    assert differing(late, [punctual[i] for i in order]) <= 0.01


def test_near_zero_the_account_leaves_thresholds_alone_and_beyond_it_moves_them_both_ways() -> None:
    plan, ledger = make_plan(uniform_policy(), STAGES, 25, None), Ledger()
    seen = []
    for balance in (-RESERVE, -STEP, -STEP + 0.01, 0.0, STEP - 0.01, STEP, RESERVE):
        ledger.balance = balance
        seen.append(ledger.thresholds(plan)[0])
    assert seen[0] < seen[1] < seen[2] == seen[3] == seen[4] == plan.thresholds[0] < seen[5] < seen[6]


@given(
    budget=st.floats(15.2, 43.9),
    drawn=st.lists(st.lists(st.sampled_from([10, 19, 29]), max_size=2), max_size=300),
)
def test_no_account_leaves_its_reserve_whatever_is_drawn(budget: float, drawn: list[list[int]]) -> None:
    ledger = Ledger()
    for flops in drawn:
        ledger.arrive(budget, 15)
        for wanted in flops:
            before = ledger.balance
            taken = ledger.draw(budget, wanted)
            assert taken == (before - wanted / budget >= -RESERVE) and (taken or ledger.balance == before)
        assert -RESERVE <= ledger.balance <= RESERVE


WAYS = st.lists(st.tuples(st.sampled_from([10, 19, 29]), st.booleans()), max_size=2)
BUDGETS = st.sampled_from([16.0, 16.7, 40.0, 42.0])  # within a level they differ by up to 5 %


@given(runs=st.lists(st.tuples(st.integers(1, 120), BUDGETS, WAYS), max_size=10))
def test_between_any_two_moments_no_more_is_spent_than_the_reserve_allows(
    runs: list[tuple[int, float, list[tuple[int, bool]]]],
) -> None:
    """Whatever images of different budgets ask for, also where ways are not gone after all."""
    ledger, beyond = Ledger(), [0.0]  # what was spent so far above AIM of each arrival's budget, in budgets
    for budget, ways in [(budget, ways) for count, budget, ways in runs for _ in range(count)]:
        ledger.arrive(budget, 15)
        beyond.append(beyond[-1] + 15 / budget - AIM)
        for flops, given_up in ways:
            if not ledger.draw(budget, flops):
                continue
            if given_up:
                ledger.give_back(budget, flops)
            else:
                beyond.append(beyond[-1] + flops / budget)
    lowest = accumulate(beyond, min)
    assert max(now - low for now, low in zip(beyond, lowest, strict=True)) <= 2 * RESERVE + 1e-9
    assert ledger.balance <= RESERVE


@given(
    budget=st.floats(15.2, 43.9),
    balance=st.floats(-RESERVE, RESERVE),
    flops=st.sampled_from([10, 19, 29]),
    others=st.integers(0, 3),
)
def test_what_is_given_back_is_there_again(budget: float, balance: float, flops: int, others: int) -> None:
    ledger, untouched = Ledger(), Ledger()
    ledger.balance = untouched.balance = balance
    drawn = ledger.draw(budget, flops)
    assert drawn == (balance - flops / budget >= -RESERVE)
    for account in (ledger, untouched):
        for _ in range(others):
            account.arrive(budget, 15)
    if drawn:
        ledger.give_back(budget, flops)
    assert ledger.balance == pytest.approx(untouched.balance, abs=1e-9)


POWERS = st.sampled_from([0.2, 0.5, 1.0, 1.5, 4.0, 1000.0])
PHASES = st.lists(st.tuples(st.integers(200, 4_000), POWERS), min_size=2, max_size=4)


@settings(max_examples=40)
@given(budget=st.floats(15.2, 43.9), phases=PHASES, seed=st.integers(0, 3))
def test_traffic_that_turns_hard_or_easy_moves_no_window_above_the_budget(
    budget: float, phases: list[tuple[int, float]], seed: int
) -> None:
    plan = make_plan(uniform_policy(), STAGES, budget, None)
    if plan.budget is None:  # every image costs the same
        return
    images = [image for count, power in phases for image in stream(count, power, seed)]
    total = [0, *accumulate(spending(plan, images))]
    longest = len(images)
    for size in {min(WINDOW, longest), longest}:
        most = max(total[end] - total[end - size] for end in range(size, longest + 1))
        assert most <= size * AIM * budget + 2 * RESERVE * budget
        if size >= WINDOW:
            assert most <= size * budget
