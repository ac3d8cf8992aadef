"""Virtual time: threads share processors evenly, and nothing happens before its time."""

from __future__ import annotations

from math import inf

import pytest

from service.simulation.machine import Machine


def test_a_thread_does_one_job_after_the_other() -> None:
    machine = Machine(cores=2)
    thread, done = machine.thread(), []
    thread.do(1.0, lambda: done.append(machine.now_s))
    thread.do(2.0, lambda: done.append(machine.now_s))
    machine.run_until(lambda: len(done) == 2)
    assert done == pytest.approx([1.0, 3.0])


def test_threads_that_want_more_processors_than_there_are_go_slower() -> None:
    machine = Machine(cores=2)
    ends: dict[str, float] = {}
    for name, width, seconds in (("one", 1, 1.0), ("another", 1, 2.0), ("third", 2, 1.0)):
        machine.thread(width).do(seconds, lambda name=name: ends.__setitem__(name, machine.now_s))
    machine.run_until(lambda: len(ends) == 3)
    # Four processors are wanted of two: half speed until 2 s, when two are done; then the rest has its own.
    assert ends == pytest.approx({"one": 2.0, "third": 2.0, "another": 3.0})


def test_what_is_planned_happens_in_the_order_of_its_times_and_time_never_runs_back() -> None:
    machine, seen = Machine(cores=1), []
    for time_s in (3.0, 1.0, 2.0):
        machine.at(time_s, lambda: seen.append(machine.now_s))
    machine.at(2.0, lambda: machine.at(0.5, lambda: seen.append(machine.now_s)))  # in the past: now
    machine.run_until(lambda: len(seen) == 4)
    assert seen == [1.0, 2.0, 2.0, 3.0]


def test_a_limit_ends_the_wait_and_an_empty_machine_says_so() -> None:
    machine = Machine(cores=1)
    machine.at(5.0, lambda: None)
    assert machine.run_until(lambda: False, limit_s=2.0) and machine.now_s == 2.0
    assert not machine.run_until(lambda: False, limit_s=inf) and machine.now_s == 5.0


def test_processor_time_is_what_was_worked_and_not_what_was_waited() -> None:
    machine = Machine(cores=1)
    threads = [machine.thread(), machine.thread()]
    done: list[int] = []
    for thread in threads:
        thread.do(1.0, lambda: done.append(1))
    machine.run_until(lambda: len(done) == 2)
    assert [thread.processor_s for thread in threads] == pytest.approx([1.0, 1.0])
    assert [thread.working_s for thread in threads] == pytest.approx([2.0, 2.0])
