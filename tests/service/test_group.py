"""Who continues in a request of several images: exact sums, the least certain first."""

from __future__ import annotations

import random
from typing import Any

from conftest import small_net, small_policy
from hypothesis import assume, given
from hypothesis import strategies as st

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


CONFIDENCES = st.lists(
    st.sampled_from([0.0, 0.05, 0.3, 0.3, 0.6, 0.9, 1.0]) | st.floats(0, 1), min_size=3, max_size=3
)
GROUPS = st.lists(CONFIDENCES, min_size=2, max_size=64)
BUDGETS = st.floats(COSTS[0], COSTS[-1] * 0.999) | st.sampled_from([float(cost) for cost in COSTS[:2]])


@given(images=GROUPS, mean=BUDGETS)
def test_the_sum_never_exceeds_n_budgets_and_no_further_image_could_have_gone_on(
    images: list[list[float]], mean: float
) -> None:
    plan = plan_for(mean)
    if plan.segment is None or plan.budget is None:
        return
    spent = run(plan, images, len(images) * mean)
    left = len(images) * mean - sum(spent)
    assert left >= 0
    richest = plan.segment.entries[-1].thresholds
    # Nobody can be called back who left earlier; at the last decision all that is affordable is spent.
    before_last, last = plan.costs[-2:]
    wanting = [
        image
        for image, flops in zip(images, spent, strict=True)
        if flops == before_last and image[-2] < richest[-1]
    ]
    assert not wanting or left < last - before_last


@given(images=GROUPS, mean=BUDGETS)
def test_who_continues_is_less_certain_than_who_leaves_and_of_equals_the_earlier(
    images: list[list[float]], mean: float
) -> None:
    plan = plan_for(mean)
    spent = run(plan, images, len(images) * mean)
    for position in range(len(plan.exits) - 1):
        here = [number for number, flops in enumerate(spent) if flops >= plan.costs[position]]
        went = [(images[number][position], number) for number in here if spent[number] > plan.costs[position]]
        stayed = [
            (images[number][position], number) for number in here if spent[number] == plan.costs[position]
        ]
        assert not went or not stayed or max(went) < min(stayed)


@given(images=GROUPS, mean=BUDGETS, data=st.data())
def test_images_without_ties_spend_the_same_in_whatever_order_they_are_sent(
    images: list[list[float]], mean: float, data: st.DataObject
) -> None:
    distinct = [[value + 1e-6 * number for value in image] for number, image in enumerate(images)]
    assume(all(len(set(at_exit)) == len(images) for at_exit in zip(*distinct, strict=True)))
    order = data.draw(st.permutations(range(len(images))))
    plan, total = plan_for(mean), len(images) * mean
    mixed = run(plan, [distinct[number] for number in order], total)
    assert dict(zip(order, mixed, strict=True)) == dict(enumerate(run(plan, distinct, total)))


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
