"""Ways to schedule differ where they should."""

from __future__ import annotations

from math import inf
from typing import Any

from model_store.nets.staged import Span
from model_store.policy import Plan
from service.engine.queue import Entry, SpanKey, SpanQueues, SpanView
from service.engine.scheduler import Launch, choose, most_urgent
from service.engine.ticket import Ticket
from service.simulation.policies import ApartQueues, EqualQueues, deepest, earliest, largest

FIRST, MIDDLE, DEEP = (SpanKey("m@1", span) for span in (Span(0, 0), Span(1, 1), Span(2, 3)))
PLAN = Plan((0, 3), (10, 40), (0.9, -inf), None, 40, None)


def ticket(**fields: Any) -> Ticket:
    model: Any = "m@1"
    return Ticket(model=model, plan=PLAN, image=None, arrival_s=0, future=None, **fields)


def test_each_rule_picks_its_own_span() -> None:
    waiting = [SpanView(FIRST, 9, 0.0, 2.0), SpanView(MIDDLE, 2, 0.0, 1.0), SpanView(DEEP, 1, 0.0, 3.0)]
    picked = {
        pick.__name__: choose(waiting, now_s=1.0, max_batch=8, max_wait_s=0.0, pick=pick)
        for pick in (deepest, largest, earliest, most_urgent)
    }
    assert picked == {
        "deepest": Launch(DEEP),
        "largest": Launch(FIRST),
        "earliest": Launch(MIDDLE),
        "most_urgent": Launch(MIDDLE),
    }


def test_survivors_of_different_batches_stay_apart_only_where_that_is_wanted() -> None:
    batches = ((), ())[0], (1,)
    for queues, sizes in ((SpanQueues(), [3]), (ApartQueues(), [2, 1])):
        for batch in (batches[0], batches[0], batches[1]):
            queues.put(Entry(ticket(position=1), batch, 0), 0.0)
        assert [view.waiting for view in queues.views()] == sizes
        taken, _, _ = queues.take(queues.views()[0].key, 8, 0.0)
        assert len(taken) == sizes[0]


def test_only_plain_deadlines_put_who_has_an_answer_before_who_has_none() -> None:
    with_answer = ticket(position=0, deadline_s=1.0, due_s=1.0)
    with_answer.position = 1
    without = ticket(position=1, due_s=2.0)
    for queues, first in ((SpanQueues(), without), (EqualQueues(), with_answer)):
        for one in (with_answer, without):
            queues.put(Entry(one, (), 0), 0.0)
        ((entry,), _, _) = queues.take(queues.views()[0].key, 1, 0.0)
        assert entry.ticket is first
