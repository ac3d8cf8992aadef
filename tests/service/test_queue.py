"""Queues of tickets per span: order, and what is dropped when a batch is formed."""

from __future__ import annotations

from math import inf
from typing import Any

from model_store.nets.staged import Span
from model_store.policy import Plan
from service.engine.queue import Entry, SpanKey, SpanQueues
from service.engine.ticket import Ticket

PLAN = Plan((0, 3), (10, 40), (0.9, float("-inf")), None, 40, None)
FIRST, SECOND = SpanKey("m@1", Span(0, 0)), SpanKey("m@1", Span(1, 3))


def ticket(**fields: Any) -> Ticket:
    future: Any = None
    return Ticket(model="m@1", plan=PLAN, image=None, arrival_s=0, future=future, **fields)


def test_a_ticket_waits_for_the_span_up_to_its_next_consulted_exit() -> None:
    queues = SpanQueues()
    queues.put(Entry(ticket(), None, 0), 1.0)
    queues.put(Entry(ticket(position=1), None, 0), 2.0)
    assert [(view.key, view.waiting, view.oldest_arrival_s) for view in queues.views()] == [
        (FIRST, 1, 1.0),
        (SECOND, 1, 2.0),
    ]


def test_the_oldest_are_taken_first_and_no_more_than_asked() -> None:
    queues = SpanQueues()
    tickets = [ticket() for _ in range(5)]
    for number, each in enumerate(tickets):
        queues.put(Entry(each, None, number), float(number))
    taken, _, _ = queues.take(FIRST, 3, 10.0)
    assert [entry.ticket for entry in taken] == tickets[:3] and len(queues) == 2
    assert queues.views()[0].oldest_arrival_s == 3.0


def test_cancelled_and_expired_tickets_take_no_place_in_a_batch() -> None:
    queues = SpanQueues()
    gone, late, good = ticket(cancelled=True), ticket(expires_s=5.0), ticket(expires_s=5.1)
    for each in (gone, late, good):
        queues.put(Entry(each, None, 0), 0.0)
    taken, cancelled, expired = queues.take(FIRST, 2, 5.0)
    assert ([entry.ticket for entry in taken], cancelled, expired) == ([good], [gone], [late])
    assert queues.views() == [] and len(queues) == 0


def test_a_queue_is_as_dear_as_who_is_due_first() -> None:
    queues = SpanQueues()
    better, soft, hard = ticket(deadline_s=9.0, position=1), ticket(due_s=2.0), ticket(deadline_s=8.0)
    for each in (better, soft):
        queues.put(Entry(each, None, 0), 0.0)
    assert [view.dear for view in queues.views(lambda first: first is soft)] == [True, False]
    assert [view.dear for view in queues.views(lambda first: first is better)] == [False, True]
    queues.put(Entry(hard, None, 0), 0.0)
    assert [view.dear for view in queues.views(lambda first: first is hard)] == [True, False]


def test_whoever_is_due_first_is_taken_first_whenever_it_came() -> None:
    queues = SpanQueues()
    relaxed, urgent, soon = ticket(due_s=9.0), ticket(due_s=2.0), ticket(due_s=3.0)
    for number, each in enumerate((relaxed, soon, urgent)):
        queues.put(Entry(each, None, 0), float(number))
    taken, _, _ = queues.take(FIRST, 2, 2.5)
    assert [entry.ticket for entry in taken] == [urgent, soon]
    assert queues.views()[0].oldest_arrival_s == 0.0  # the relaxed one, which has waited longest


def test_a_model_that_is_loaded_anew_has_queues_of_its_own() -> None:
    queues = SpanQueues()
    for model in ("old", "new"):
        each = ticket()
        each.model = model  # type: ignore[assignment]
        queues.put(Entry(each, None, 0), 0.0)
    assert [view.waiting for view in queues.views()] == [1, 1]


def test_who_has_an_answer_in_hand_gives_way_to_who_needs_one() -> None:
    queues = SpanQueues()
    in_hand, patient = ticket(position=1, deadline_s=1.0, due_s=1.0), ticket(position=1, due_s=5.0)
    queues.put(Entry(in_hand, None, 0), 0.0)
    assert queues.views()[0].due_s == inf
    queues.put(Entry(patient, None, 0), 0.1)
    assert queues.views()[0].due_s == 5.0
    taken, _, _ = queues.take(SECOND, 1, 0.2)
    assert [entry.ticket for entry in taken] == [patient]
    assert queues.views()[0].oldest_arrival_s == -inf  # it fitted its deadline: no time for company


def test_who_has_an_answer_leaves_rather_than_be_late_or_stay_for_ever() -> None:
    queues = SpanQueues()
    in_time, too_late = (ticket(position=1, deadline_s=s, due_s=s) for s in (2.0, 1.0))
    for each in (in_time, too_late):
        queues.put(Entry(each, None, 0), 0.0)
    taken, _, expired = queues.take(SECOND, 8, 0.5, bound_s=0.6)
    assert ([entry.ticket for entry in taken], expired) == ([in_time], [too_late])
    for number in range(100):
        queues.put(Entry(ticket(position=1, deadline_s=1.0 + number, due_s=1.0), None, 0), 0.0)
    queues.put(Entry(ticket(position=1, due_s=1.0), None, 0), 0.0)
    assert len(queues.drop_late(50.5)) == 50 and len(queues) == 51
    assert len(queues.drop_late(200.0)) == 50 and len(queues) == 1


def test_overdue_tickets_and_deadlines_that_can_still_be_met_take_turns() -> None:
    queues = SpanQueues()
    for number in range(40):
        queues.put(Entry(ticket(due_s=1.0), None, number), 0.0)
    urgent = [ticket(deadline_s=9.0, due_s=9.0) for _ in range(4)]
    for each in urgent:
        queues.put(Entry(each, None, 0), 5.0)
    taken, _, _ = queues.take(FIRST, 8, 5.0)
    assert sum(entry.ticket in urgent for entry in taken) == 4 and len(taken) == 8
