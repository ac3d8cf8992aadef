"""Brownout follows the waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.engine.brownout import BEGIN, FULL, STEPS, Brownout
from service.engine.engine import Engine
from service.metrics import Metrics


def strained(waits: float = 1.0, enabled: bool = True) -> Brownout:
    """At time 0 somebody has waited for so many objectives of one second."""
    brownout = Brownout(1.0, enabled)
    brownout.observe(waits, 0.0)
    return brownout


def test_the_longer_the_waits_the_less_of_the_budget_is_left_down_to_the_floor() -> None:
    budgets = [strained(wait / 100).shrunk(100.0, 25.0, 0.0) for wait in range(60)]
    assert budgets == sorted(budgets, reverse=True) and len(set(budgets)) == STEPS + 1
    assert set(budgets[: round(100 * BEGIN) + 1]) == {100.0}
    assert budgets[round(100 * FULL) :] == pytest.approx([25.0] * (60 - round(100 * FULL)))


def test_the_budget_comes_back_step_by_step_once_nobody_waits() -> None:
    brownout = strained()
    steps = []
    for number in range(1_000):
        brownout.observe(0.01, number / 100)
        steps.append(brownout.step(number / 100))
    assert steps == sorted(steps, reverse=True) and set(steps) == set(range(STEPS + 1))
    assert steps.index(STEPS - 1) > 100 and steps.index(0) < 800


def test_a_longer_wait_counts_at_once_and_a_shorter_one_does_not_help() -> None:
    brownout, other = strained(0.2), strained(0.2)
    brownout.observe(0.15, 0.001)
    assert brownout.step(0.001) == other.step(0.001) > 0
    brownout.observe(0.25, 0.002)
    assert brownout.step(0.002) > other.step(0.002)


def test_waits_that_always_were_there_do_not_hold_a_step_that_they_did_not_cause() -> None:
    brownout = strained()
    for number in range(1_000):
        brownout.observe(0.9 * BEGIN, number / 100)
    assert brownout.step(10.0) == 0


def test_what_was_long_ago_does_not_degrade_anybody_after_a_pause() -> None:
    brownout = strained()
    assert brownout.shrunk(100.0, 25.0, 0.0) == pytest.approx(25.0)
    for moment in (10.0, 10.1, 10.2):
        assert brownout.shrunk(100.0, 25.0, moment) == 100.0
        brownout.observe(0.01, moment)


def test_launches_longer_than_the_objective_shrink_budgets_as_well() -> None:
    brownout = Brownout(1.0)
    for number in range(10):
        brownout.observe(2.0, 2.0 * number)
        assert brownout.step(2.0 * number + 1.9) > 0


def test_switched_off_or_at_its_floor_a_budget_stays() -> None:
    assert strained(enabled=False).shrunk(100.0, 25.0, 0.0) == 100.0
    assert strained().shrunk(100.0, 100.0, 0.0) == 100.0


async def test_a_scrape_sees_how_far_budgets_are_shrunk_and_that_this_passes() -> None:
    metrics = Metrics()
    engine = Engine(metrics, max_in_flight=8, max_batch=1, max_wait_s=0.001, objective_s=0.02, brownout=True)
    assert shown(metrics) == {"exitramp_brownout": 0.0, "exitramp_in_flight_limit": 8.0}
    engine.brownout.observe(0.02, time.monotonic())
    assert shown(metrics)["exitramp_brownout"] == 1.0
    while strength := shown(metrics)["exitramp_brownout"]:  # 160 ms at most: eight objectives
        assert strength in {step / STEPS for step in range(STEPS + 1)}
        await asyncio.sleep(0.001)


def shown(metrics: Metrics) -> dict[str, float]:
    names = ("exitramp_brownout", "exitramp_in_flight_limit")
    return {
        sample.name: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name in names
    }
