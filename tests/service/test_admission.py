"""Who is let in, and what a refused client is told."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack

import pytest

from service.engine.admission import COMING_S, SETTLING, Admission, Departures, NoPermit
from service.engine.brownout import BEGIN, FULL, STEPS, Brownout
from service.metrics import Metrics


def test_the_time_to_drain_follows_the_rate_of_answers() -> None:
    rate = Departures()
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
    with admission.admit(patient=False) as permit:  # so that it is let in whatever the others wait
        permit.submitted()
        admission.answered(waited_s)
        admission.departed()


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
            stack.enter_context(admission.admit(patient)).submitted()
            stack.callback(admission.departed)
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
        admission = loaded(clock, stack, waited_s=1.0, seconds=5, rate=4)
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
        assert admission.brownout.step(clock.now_s) == 0
        enter(admission, stack, round(100 * BEGIN))
        assert 0 < admission.brownout.step(clock.now_s) < STEPS
        enter(admission, stack, round(100 * FULL))
        assert admission.brownout.step(clock.now_s) == STEPS


def hardly_asked(clock: Clock) -> Admission:
    """Two requests a second, which is not what the server can do."""
    admission = Admission(1_000, 8, 1.0, Brownout(1.0), Metrics())
    for _ in range(10):
        clock.now_s += 0.5
        one_comes_and_goes(admission, waited_s=0.0)
    return admission


def test_a_burst_degrades_nobody_as_long_as_nothing_tells_how_fast_it_goes(clock: Clock) -> None:
    admission = hardly_asked(clock)
    with ExitStack() as stack:
        for _ in range(200):
            clock.now_s += 0.9 * SETTLING / 200
            assert enter(admission, stack, 1) == 1
    assert admission.brownout.step(clock.now_s) == 0


def test_a_crowd_that_waited_for_a_program_to_be_compiled_refuses_nobody(clock: Clock) -> None:
    admission = hardly_asked(clock)
    waiting = deque[ExitStack]()

    def one_comes() -> None:
        waiting.append(ExitStack())
        assert enter(admission, waiting[-1], 1) == 1

    for _ in range(16):
        one_comes()
    clock.now_s += 0.8  # of an objective of 1 s, until the first of two launches is done
    for number in range(400):  # 400 a second from then on: what is in takes 0.04 s
        clock.now_s += 1 / 400
        waiting.popleft().close()
        admission.answered(0.8 if number < 16 else 0.04)
        one_comes()
    while waiting:
        waiting.popleft().close()


def test_requests_whose_launches_fail_in_time_make_no_crowd_of_others(clock: Clock) -> None:
    with ExitStack() as stack:
        admission = loaded(clock, stack, waited_s=0.0)
        for _ in range(200):  # a hundred a second, without an answer
            clock.now_s += 0.01
            with admission.admit() as permit:
                permit.submitted()
                admission.departed()
    assert admission.brownout.step(clock.now_s) == 0


def test_who_sends_slowly_is_no_company_to_wait_for(clock: Clock) -> None:
    admission = Admission(1_000, 8, 1.0, Brownout(1.0), Metrics())
    with admission.admit() as slow, admission.admit():
        assert admission.arriving == 2
        clock.now_s += 1.01 * COMING_S
        with admission.admit() as quick:
            assert (admission.arriving, admission.in_flight) == (1, 3)
            clock.now_s += 0.99 * COMING_S
            with admission.admit():
                assert admission.arriving == 2
            quick.submitted()
            slow.submitted()
            assert (admission.arriving, admission.queued) == (0, 2)
    assert admission.in_flight == admission.arriving == 0


def test_who_sends_slowly_is_no_crowd_before_others(clock: Clock) -> None:
    admission = Admission(1_000, 8, 1.0, Brownout(1.0), Metrics())
    with ExitStack() as stack:
        slow = [stack.enter_context(admission.admit()) for _ in range(50)]
        for _ in slow:
            clock.now_s += 0.1
            one_comes_and_goes(admission, waited_s=0.0)
        assert admission.brownout.step(clock.now_s) == 0
        assert enter(admission, stack, 20) == 20


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
        clock.now_s = number / 10
        if number >= 50:
            held.popleft().close()
        held.append(ExitStack())
        enter(admission, held[-1], 1)
    with pytest.raises(NoPermit, match="all 50 permits") as refusal, admission.admit():
        pass
    assert refusal.value.retry_after_s == pytest.approx(5, rel=0.1)
