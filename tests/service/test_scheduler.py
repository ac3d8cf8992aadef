"""The scheduler is a pure function: each rule of ``choose`` as a test."""

from math import inf

from model_store.nets.staged import Span
from service.engine.queue import SpanKey, SpanView
from service.engine.scheduler import Launch, WaitUntil, choose

FIRST, DEEP = SpanKey("m@1", Span(0, 0)), SpanKey("m@1", Span(1, 3))


def test_with_nothing_waiting_the_device_sleeps_until_something_arrives() -> None:
    assert choose([], now_s=1.0, max_batch=8, max_wait_s=0.002) == WaitUntil(None)


def test_the_window_opens_at_the_first_arrival_not_at_the_last_batch() -> None:
    waiting = [SpanView(FIRST, waiting=1, oldest_arrival_s=10.0)]
    assert choose(waiting, now_s=10.001, max_batch=8, max_wait_s=0.002) == WaitUntil(10.002)


def test_a_full_batch_is_due_at_once() -> None:
    waiting = [SpanView(FIRST, waiting=8, oldest_arrival_s=10.0)]
    assert choose(waiting, now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(FIRST)


def test_an_old_ticket_makes_its_span_due() -> None:
    waiting = [SpanView(FIRST, waiting=1, oldest_arrival_s=10.0)]
    assert choose(waiting, now_s=10.002, max_batch=8, max_wait_s=0.002) == Launch(FIRST)


def test_nobody_is_waited_for_when_nobody_is_on_the_way() -> None:
    waiting = [SpanView(FIRST, waiting=1, oldest_arrival_s=10.0)]
    assert choose(waiting, now_s=10.0, max_batch=8, max_wait_s=0.002, arriving=0) == Launch(FIRST)


def test_of_two_due_spans_the_deeper_goes_first() -> None:
    waiting = [SpanView(FIRST, 8, 10.0), SpanView(DEEP, 1, 9.0)]
    assert choose(waiting, now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(DEEP)


def test_a_due_shallow_span_does_not_wait_for_a_deep_one_that_is_not_due() -> None:
    waiting = [SpanView(FIRST, 8, 10.0), SpanView(DEEP, 1, 10.0)]
    assert choose(waiting, now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(FIRST)


def test_the_device_wakes_for_the_span_that_is_due_first() -> None:
    waiting = [SpanView(FIRST, 1, 10.001), SpanView(DEEP, 1, 10.0)]
    assert choose(waiting, now_s=10.001, max_batch=8, max_wait_s=0.002) == WaitUntil(10.002)


def test_of_two_due_spans_the_one_whose_answers_are_needed_first_goes_first() -> None:
    waiting = [SpanView(FIRST, 1, 9.0, due_s=10.4), SpanView(DEEP, 1, 9.0, due_s=10.5)]
    assert choose(waiting, now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(FIRST)
    better_only = [SpanView(FIRST, 1, 9.0, due_s=10.4), SpanView(DEEP, 1, 9.0)]
    assert choose(better_only, now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(FIRST)


def test_an_optional_launch_does_not_go_before_somebody_who_waits_for_company() -> None:
    waiting = [SpanView(FIRST, 1, 10.0, due_s=10.4), SpanView(DEEP, 32, -inf)]
    assert choose(waiting, now_s=10.0, max_batch=32, max_wait_s=0.002, arriving=2) == Launch(FIRST)
