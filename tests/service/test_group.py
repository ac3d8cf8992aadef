"""Who continues in a request of several images: exact sums, the least certain first."""

from __future__ import annotations

import random
from typing import Any

import pytest
from conftest import small_net, small_policy

from model_store.flops import count_stages
from model_store.policy import Plan, make_plan
from service.engine.group import Group, continuing
from service.engine.queue import Entry

STAGES = count_stages(small_net(), 32, 32)
POLICY = small_policy(small_net())
COSTS = make_plan(POLICY, STAGES, None, None).costs


def plan_for(mean: float) -> Plan:
    return make_plan(POLICY, STAGES, mean, None)


def run(plan: Plan, confidences: list[list[float]], total: float) -> list[int]:
    """FLOPs of each image of a group; ``confidences`` holds one list per image, one entry per exit."""
    group = Group(plan, len(confidences), total)
    spent = [0] * len(confidences)
    going = list(range(len(confidences)))
    for position in range(len(plan.exits)):
        for number in going:
            spent[number] = plan.costs[position]
        if position + 1 == len(plan.exits) or not going:
            break
        decision = None
        for number in going:
            assert decision is None, "nobody is decided before the last has come"
            ticket: Any = number
            decision = group.meet(confidences[number][position], Entry(ticket, None, number))
        assert decision is not None
        going = [entry.row for entry in decision[1]]
    return spent


@pytest.mark.parametrize("size", [2, 3, 5, 17, 32, 64])
def test_the_sum_never_exceeds_n_budgets_whatever_the_confidences(size: int) -> None:
    chance = random.Random(size)
    for _ in range(200):
        mean = chance.uniform(COSTS[0], COSTS[-1] * 0.999)
        hardness = chance.choice([0.05, 1, 20])
        images = [[chance.random() ** hardness for _ in COSTS] for _ in range(size)]
        plan = plan_for(mean)
        if plan.budget is not None:
            assert sum(run(plan, images, size * mean)) <= size * mean


def test_hard_images_spend_nearly_all_that_there_is() -> None:
    chance = random.Random(0)
    for mean in (COSTS[0] * 1.2, sum(COSTS) / 3, COSTS[-1] * 0.95):
        images = [[chance.random() * 0.2 for _ in COSTS] for _ in range(64)]
        assert sum(run(plan_for(mean), images, 64 * mean)) >= 0.95 * 64 * mean


def test_the_least_certain_continue_and_ties_go_by_position() -> None:
    plan = plan_for(sum(COSTS) / 3)
    step = COSTS[1] - COSTS[0]
    group = Group(plan, 4, 4 * COSTS[0] + 2.5 * step)
    decision = None
    for row, confidence in enumerate((0.5, 0.1, 0.5, 0.5)):
        ticket: Any = row
        decision = group.meet(confidence, Entry(ticket, None, row))
    assert decision is not None
    assert {entry.row for entry in decision[1]} <= {0, 1}
    assert 1 in {entry.row for entry in decision[1]}


def test_nobody_continues_without_credit() -> None:
    assert continuing([0.1, 0.2], plan_for(COSTS[0] * 1.1), 0, 0.0) == 0


def test_at_the_last_decision_nothing_is_saved() -> None:
    plan = plan_for(sum(COSTS) / 3)
    step = COSTS[2] - COSTS[1]
    assert continuing([0.1, 0.2, 0.3], plan, 1, 2.9 * step) == 2
