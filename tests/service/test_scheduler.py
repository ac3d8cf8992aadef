"""The scheduler is a pure function: each rule of ``choose`` as a test."""

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_before_a_dear_launch_others_do_not_wait_for_company() -> None:
    dear = SpanView(DEEP, waiting=8, oldest_arrival_s=9.9, due_s=10.5, dear=True)
    sooner, later = (SpanView(FIRST, 1, oldest_arrival_s=10.0, due_s=due_s) for due_s in (10.4, 10.6))
    assert choose([sooner, dear], now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(FIRST)
    assert choose([later, dear], now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(DEEP, dear=True)
    as_dear = sooner._replace(dear=True)
    assert choose([as_dear, dear], now_s=10.0, max_batch=8, max_wait_s=0.002) == Launch(DEEP, dear=True)
    assert choose([sooner], now_s=10.0, max_batch=8, max_wait_s=0.002) == WaitUntil(10.002)


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


MOMENTS = [9.9, 9.95, 9.999, 10.0, 10.001, 10.05]
VIEWS = st.lists(
    st.builds(
        SpanView,
        key=st.builds(
            SpanKey, st.sampled_from(["a@1", "b@1"]), st.builds(Span, st.integers(0, 2), st.just(3))
        ),
        waiting=st.sampled_from([1, 1, 2, 7, 8, 12]),
        oldest_arrival_s=st.sampled_from([-inf, *MOMENTS]),
        due_s=st.sampled_from([*MOMENTS, inf, inf]),
        dear=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda view: view.key,
).map(lambda views: sorted(views, key=lambda view: view.key.span))


@settings(max_examples=300)
@given(
    views=VIEWS,
    now_s=st.sampled_from(MOMENTS),
    max_wait_s=st.sampled_from([0.0, 0.002, 0.05, 0.2]),
    arriving=st.integers(0, 2),
)
def test_nothing_goes_before_it_is_due_and_nobody_who_is_due_waits(
    views: list[SpanView], now_s: float, max_wait_s: float, arriving: int
) -> None:
    def decide(at_s: float) -> Launch | WaitUntil:
        return choose(views, now_s=at_s, max_batch=8, max_wait_s=max_wait_s, arriving=arriving)

    wake_at = [view.oldest_arrival_s + max_wait_s for view in views]
    due = [
        view
        for view, wake_s in zip(views, wake_at, strict=True)
        if view.waiting >= 8 or not arriving or now_s >= wake_s
    ]
    decision = decide(now_s)
    if isinstance(decision, WaitUntil):
        assert not due and decision.time_s == min(wake_at, default=None)
        if decision.time_s is not None:
            assert decision.time_s > now_s and isinstance(decide(decision.time_s), Launch)
        return
    (chosen,) = [view for view in views if view.key == decision.key]
    assert decision.dear == chosen.dear
    if all(view.dear for view in due):
        due = [view for view in views if view in due or not view.dear]
    if chosen in due:
        assert chosen.due_s == min(view.due_s for view in due)
        equal = [view.key.span for view in due if view.due_s == chosen.due_s]
        assert chosen.key.span == max(equal), "of those in equal need the deepest"
        assert chosen.due_s < inf or all(view.due_s == inf for view in views)
    else:  # before a launch that only makes answers better
        assert due and all(view.due_s == inf for view in due)
        assert chosen.due_s == min(view.due_s for view in views) < inf
