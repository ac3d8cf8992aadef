"""Brownout steps down under load and back again; what a refused client is told."""

from __future__ import annotations

import pytest

from service.engine.admission import Admission, AnswerRate, NoPermit
from service.engine.brownout import DOWN, HIGH, LOW, STEPS, UP, Brownout
from service.metrics import Metrics

LONG, SHORT = HIGH + 0.1, LOW / 2


def strained(objective_s: float = 1.0, enabled: bool = True) -> tuple[Brownout, float]:
    """At its floor, if it has one, and the time then."""
    brownout = Brownout(objective_s, enabled)
    for number in range(STEPS):
        brownout.observe(LONG * objective_s, number * DOWN * objective_s)
    return brownout, STEPS * DOWN * objective_s


def test_long_waits_shrink_the_budget_step_by_step_down_to_the_floor() -> None:
    brownout = Brownout(1.0)
    budgets = []
    for number in range(2 * STEPS):
        budgets.append(brownout.shrunk(100.0, 25.0, number * DOWN))
        brownout.observe(LONG, number * DOWN)
    assert budgets[0] == 100.0 and budgets == sorted(budgets, reverse=True)
    assert budgets[STEPS] == budgets[-1] == pytest.approx(25.0)
    assert len(set(budgets)) == STEPS + 1


def test_all_steps_down_fit_into_half_of_the_objective() -> None:
    brownout, now_s = strained()
    assert brownout.step(now_s) == STEPS and now_s <= 0.5


def test_each_step_has_time_to_show_before_the_next() -> None:
    brownout = Brownout(1.0)
    for moment in (0.0, 0.1 * DOWN, 0.9 * DOWN):
        brownout.observe(LONG, moment)
    assert brownout.step(DOWN) == 1


def test_only_after_a_while_of_short_waits_alone_the_budget_comes_back() -> None:
    brownout, now_s = strained()
    for wait in (SHORT, (HIGH + LOW) / 2):  # in turns: some still wait
        for _ in range(10):
            now_s += UP / 10
            brownout.observe(wait, now_s)
            brownout.observe((HIGH + LOW) / 2, now_s)
    assert brownout.step(now_s) == STEPS
    steps = []
    for _ in range(101 * STEPS):
        now_s += UP / 100
        brownout.observe(SHORT, now_s)
        steps.append(brownout.step(now_s))
    assert steps == sorted(steps, reverse=True) and set(steps) == set(range(STEPS + 1))
    assert steps.index(STEPS - 1) == pytest.approx(99, abs=2), "one step for each pause"


def test_what_was_long_ago_does_not_degrade_the_first_request_after_a_pause() -> None:
    brownout, now_s = strained()
    assert brownout.shrunk(100.0, 25.0, now_s) == pytest.approx(25.0)
    assert brownout.shrunk(100.0, 25.0, now_s + 1.0) == 100.0
    brownout.observe(LONG, now_s + 2.0)
    assert brownout.step(now_s + 2.0) == 1


def test_switched_off_or_at_its_floor_a_budget_stays() -> None:
    (off, now_s), (on, _) = strained(enabled=False), strained()
    assert off.shrunk(100.0, 25.0, now_s) == 100.0
    assert on.shrunk(100.0, 100.0, now_s) == 100.0


def test_the_time_to_drain_follows_the_rate_of_answers() -> None:
    rate = AnswerRate()
    assert rate.drain_s(10, 0.0) == 0.0  # nobody can tell
    for number in range(2_000):
        rate.note(number / 500)
    assert rate.drain_s(250, 4.0) == pytest.approx(0.5, rel=0.02)
    assert rate.drain_s(250, 5.0) == pytest.approx(0.5 * 2.718, rel=0.02)  # answers have stopped
    assert rate.drain_s(250, 60.0) == 0.0


def test_at_the_floor_only_those_who_can_be_answered_in_time_are_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr("service.engine.admission.time.monotonic", lambda: now_s)
    brownout = Brownout(1.0)
    admission = Admission(1_000, 1.0, brownout, Metrics())
    for number in range(200):  # 100 answers a second
        now_s = number / 100
        admission.answered(LONG)
    held = [admission.admit() for _ in range(200)]
    entered = 0
    with pytest.raises(NoPermit, match="objective of 1 s") as refusal:
        for permit in held:
            permit.__enter__()
            entered += 1
    assert 40 <= entered <= 60
    assert 0.4 < refusal.value.retry_after_s < 0.7
    for permit in held[:entered]:
        permit.__exit__(None, None, None)
    assert admission.in_flight == admission.arriving == 0


def test_without_brownout_the_number_of_permits_alone_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("service.engine.admission.time.monotonic", lambda: now_s)
    admission = Admission(50, 0.01, Brownout(0.01, enabled=False), Metrics())
    for number in range(100):
        now_s = number / 10
        admission.answered(0.0)
    held = [admission.admit() for _ in range(50)]
    for permit in held:
        permit.__enter__()
    with pytest.raises(NoPermit, match="all 50 permits") as refusal, admission.admit():
        pass
    assert refusal.value.retry_after_s > 1
