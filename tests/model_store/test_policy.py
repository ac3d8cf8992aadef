"""From budgets and limits to plans."""

from __future__ import annotations

import json
import re
from math import inf

import pytest
from uniform import DIRECT, STAGES, uniform_policy

from model_store.policy import AIM, Policy, UnaffordableError, make_plan, path_flops, stepwise


@pytest.mark.parametrize(
    ("limit", "exit_"), [(15, 0), (23.9, 0), (24, 1), (33, 2), (41.9, 2), (42, 3), (1e12, 3)]
)
def test_a_limit_alone_takes_the_deepest_exit_whose_direct_cost_fits(limit: float, exit_: int) -> None:
    plan = make_plan(uniform_policy(), STAGES, None, limit)
    assert plan.exits == (exit_,) and plan.costs == (DIRECT[exit_],) and plan.costs[0] <= limit


def test_costs_along_a_path_count_every_block_and_only_consulted_heads() -> None:
    assert path_flops(STAGES, (0, 1, 3)) == (15, 25, 44)


def test_a_budget_aims_a_little_below_itself() -> None:
    plan = make_plan(uniform_policy(), STAGES, 25, None)
    expected = uniform_policy().segments[0].thresholds_at(25 * AIM)
    assert plan.exits == (0, 1, 3) and plan.thresholds == (*expected, -inf) and plan.budget == 25


def test_budget_and_limit_together_consult_the_policys_exits_up_to_the_limit() -> None:
    plan = make_plan(uniform_policy(), STAGES, 24.9, 30)
    assert plan.exits == (0, 1) and max(plan.costs) <= 30 and plan.budget == 24.9


@pytest.mark.parametrize("mean", [15, 16, 20, 24, 30, 41, 42, 44, 60, 1e9])
@pytest.mark.parametrize("limit", [15, 16, 24, 25, 33, 43, 44, 1e9])
def test_no_path_of_a_plan_exceeds_the_limit(mean: float, limit: float) -> None:
    plan = make_plan(uniform_policy(), STAGES, mean, limit)
    assert max(plan.costs) <= limit
    assert plan.budget is not None or max(plan.costs) <= mean, (
        "without an account no image may exceed the mean"
    )
    if len(plan.exits) == 1:  # where a deadline adds an answer on the way
        assert max(stepwise(uniform_policy(), STAGES, plan).costs) <= min(mean, limit)


@pytest.mark.parametrize(
    ("mean", "limit", "name"), [(14.9, None, "budget"), (None, 1, "limit"), (30, 14, "limit")]
)
def test_below_the_cheapest_exit_the_error_names_its_flops(
    mean: float | None, limit: float | None, name: str
) -> None:
    with pytest.raises(UnaffordableError, match=f"{name} .* costs 15 FLOPs"):
        make_plan(uniform_policy(), STAGES, mean, limit)


def test_without_budget_or_limit_the_default_budget_holds() -> None:
    assert make_plan(uniform_policy(), STAGES, None, None).budget == 20


def test_with_a_deadline_a_limit_consults_exits_on_the_way_but_leaves_none_early() -> None:
    plan = stepwise(uniform_policy(), STAGES, make_plan(uniform_policy(), STAGES, None, 30))
    assert plan.exits == (0, 1) and plan.thresholds == (inf, -inf) and max(plan.costs) <= 30


@pytest.mark.parametrize("limit", range(16, 80))
def test_with_a_deadline_a_limit_goes_as_deep_as_it_pays_for_with_one_answer_on_the_way(limit: int) -> None:
    policy, alone = uniform_policy(), make_plan(uniform_policy(), STAGES, None, limit)
    plan = stepwise(policy, STAGES, alone)
    assert plan.costs[-1] <= limit and plan.exits[-1] <= alone.exits[-1]
    first = policy.segments[-1].exits[0] - 1
    reachable = [k for k in range(first + 1, len(STAGES)) if path_flops(STAGES, (first, k))[-1] <= limit]
    assert plan.exits[-1] == max(reachable, default=alone.exits[-1])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_policy_holds_numbers_only(number: str) -> None:
    text = uniform_policy().model_dump_json()
    broken = re.sub(r'("thresholds":\[)[^,\]]+', rf"\g<1>{number}", text, count=1)
    assert broken != text
    with pytest.raises(ValueError, match="finite number"):
        Policy.model_validate(json.loads(broken))


def test_the_id_changes_with_the_content_only() -> None:
    assert uniform_policy().id == uniform_policy().id != uniform_policy((1, 3, 4)).id
    assert len(uniform_policy().id) == 12


def test_temperatures_belong_to_the_id_and_their_absence_does_not() -> None:
    plain = uniform_policy()
    assert plain.id == "1fcf492a43c3" and [plain.temperature(k) for k in range(4)] == [1.0] * 4
    scaled = plain.model_copy(update={"temperatures": (1.1, 1.2, 1.3, 1.4)})
    assert scaled.temperature(2) == 1.3
    assert Policy.model_validate_json(scaled.model_dump_json()).id != plain.id


@pytest.mark.parametrize("budget", [15, 15.05, 15.1])
def test_a_budget_that_pays_for_the_first_exit_only_needs_no_account(budget: float) -> None:
    plan = make_plan(uniform_policy(), STAGES, budget, None)
    assert plan.exits == (0,) and plan.budget is None
