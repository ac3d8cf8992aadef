"""Brownout follows the waits; who is refused, and what a refused client is told."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import ExitStack

import pytest

from service.engine.admission import SETTLING, Admission, Departures, NoPermit
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


def test_the_time_to_drain_follows_the_rate_of_answers() -> None:
    rate = Departures(0.0)
    assert rate.drain_s(10, 0.0) == 0.0  # nobody can tell
    for number in range(2_000):
        rate.note(number / 500)
        if number > 100:  # from the beginning, not only once old ones have faded
            assert rate.drain_s(250, number / 500) == pytest.approx(0.5, rel=0.05)
    assert rate.drain_s(250, 5.0) == pytest.approx(0.5 * 2.718, rel=0.03)  # answers have stopped
    assert rate.drain_s(250, 60.0) == 0.0


class Clock:
    """The time that ``Admission`` sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr("service.engine.admission.time.monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def one_comes_and_goes(admission: Admission, waited_s: float) -> None:
    """It is answered after ``waited_s``; having a deadline it is let in whatever the others wait."""
    with admission.admit(patient=False):
        admission.answered(waited_s)


def loaded(
    clock: Clock, crowd: ExitStack, waited_s: float, seconds: float = 2.0, rate: int = 100
) -> Admission:
    """A crowd of 8 for ``seconds`` with so many answers a second, each of which waited for so long."""
    admission = Admission(1_000, 8, 1.0, Brownout(1.0), Metrics())
    assert enter(admission, crowd, 8) == 8
    for _ in range(round(seconds * rate)):
        clock.now_s += 1 / rate
        one_comes_and_goes(admission, waited_s)
    return admission


def enter(admission: Admission, stack: ExitStack, count: int, patient: bool = True) -> int:
    """How many are let in until one is refused."""
    for entered in range(count):
        try:
            stack.enter_context(admission.admit(patient))
        except NoPermit:
            return entered
    return count


def test_at_the_floor_only_those_who_can_be_answered_in_time_are_let_in(clock: Clock) -> None:
    with ExitStack() as stack:
        admission = loaded(clock, stack, waited_s=1.0)
        assert 35 <= 8 + enter(admission, stack, 200) <= 45
        with pytest.raises(NoPermit, match=r"0\.4 s are allowed") as refusal, admission.admit():
            pass
        assert 0.4 < refusal.value.retry_after_s < 0.5
        assert enter(admission, stack, 200, patient=False) == 200, "a deadline is not the objective"
    assert admission.in_flight == admission.arriving == 0


def test_those_who_fit_into_one_launch_are_never_too_many(clock: Clock) -> None:
    with ExitStack() as stack:
        admission = loaded(clock, stack, waited_s=1.0, rate=4)
        assert enter(admission, stack, 100) == 0
    with ExitStack() as stack:
        assert enter(admission, stack, 8) == 8


def test_short_of_the_floor_nobody_is_refused(clock: Clock) -> None:
    with ExitStack() as stack:
        admission = loaded(clock, stack, waited_s=(BEGIN + FULL) / 2)
        assert enter(admission, stack, 900) == 900


def test_a_crowd_shrinks_budgets_before_anybody_has_waited(clock: Clock) -> None:
    with ExitStack() as stack:
        admission = loaded(clock, stack, waited_s=0.0)
        brownout = admission.brownout
        assert brownout.step(clock.now_s) == 0
        enter(admission, stack, round(100 * BEGIN))
        assert 0 < brownout.step(clock.now_s) < STEPS
        enter(admission, stack, round(100 * FULL))
        assert brownout.step(clock.now_s) == STEPS


def hardly_asked(clock: Clock) -> Admission:
    """Two requests a second, which is not what the server can do."""
    admission = Admission(1_000, 8, 1.0, Brownout(1.0), Metrics())
    for _ in range(10):
        clock.now_s += 0.5
        with admission.admit():
            admission.answered(0.0)
    return admission


def test_a_burst_degrades_nobody_as_long_as_nothing_tells_how_fast_it_goes(clock: Clock) -> None:
    admission = hardly_asked(clock)
    with ExitStack() as stack:
        for _ in range(200):
            clock.now_s += 0.9 * SETTLING / 200
            assert enter(admission, stack, 1) == 1
    assert admission.brownout.step(clock.now_s) == 0


def test_requests_that_fail_in_time_make_no_crowd_of_others(clock: Clock) -> None:
    admission = Admission(1_000, 8, 1.0, Brownout(1.0), Metrics())
    with ExitStack() as stack:
        enter(admission, stack, 8)
        for _ in range(200):  # a hundred broken images a second, which nobody answers
            clock.now_s += 0.01
            with admission.admit():
                pass
    assert admission.brownout.step(clock.now_s) == 0


def test_what_was_answered_before_the_floor_was_reached_refuses_nobody(clock: Clock) -> None:
    admission = hardly_asked(clock)
    with ExitStack() as stack:
        for number in range(100):  # now 100 at once, and 1,000 answers a second
            clock.now_s += 0.001
            one_comes_and_goes(admission, 1.0 if number else 0.0)
            assert enter(admission, stack, 1) == 1
        clock.now_s += SETTLING
        for _ in range(250):
            clock.now_s += 0.001
            one_comes_and_goes(admission, 1.0)
        assert enter(admission, stack, 100) == 100


def test_without_brownout_the_number_of_permits_alone_refuses(clock: Clock) -> None:
    admission = Admission(50, 8, 0.01, Brownout(0.01, enabled=False), Metrics())
    held = deque[ExitStack]()
    for number in range(150):
        if number >= 50:
            clock.now_s = number / 10
            held.popleft().close()
        held.append(ExitStack())
        held[-1].enter_context(admission.admit())
    with pytest.raises(NoPermit, match="all 50 permits") as refusal, admission.admit():
        pass
    assert refusal.value.retry_after_s == pytest.approx(5, rel=0.1)
