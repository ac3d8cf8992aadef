"""The queues against a list that is searched from end to end: whatever is put, taken and dropped."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_store.policy import Plan
from service.engine.queue import Entry, SpanKey, SpanQueues, SpanView, span_of
from service.engine.ticket import Ticket

PLAN = Plan((0, 3), (10, 40), (0.9, -inf), None, 40, None)
SECONDS = st.sampled_from([0.1, 0.5, 1.0, 2.0, 5.0])


class Queues(RuleBasedStateMachine):
    """Tickets with and without a deadline, an answer in hand, and somebody who still wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.queues = SpanQueues()
        self.now_s = 10.0
        self.waiting: list[Entry] = []
        self.puts = 0

    @rule(
        model=st.sampled_from(["a@1", "a@1", "b@1"]),
        position=st.integers(0, 1),
        due_in_s=SECONDS,
        deadline_in_s=st.one_of(st.none(), SECONDS),
        spare_s=st.sampled_from([0.0, 0.3]),
        together=st.integers(1, 4),
    )
    def put(
        self,
        model: str,
        position: int,
        due_in_s: float,
        deadline_in_s: float | None,
        spare_s: float,
        together: int,
    ) -> None:
        due_s, deadline_s, expires_s = self.now_s + due_in_s, None, inf
        if deadline_in_s is not None:
            deadline_s = self.now_s + deadline_in_s
            due_s, expires_s = min(due_s, deadline_s), deadline_s + spare_s
        for _ in range(together):
            ticket = Ticket(model, PLAN, None, self.now_s, None, deadline_s, expires_s, due_s)  # type: ignore[arg-type]
            ticket.position = position
            entry = Entry(ticket, None, self.puts)
            self.puts += 1
            self.queues.put(entry, self.now_s)
            self.waiting.append(entry)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).ticket.cancelled = True

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), most=st.integers(1, 6), bound_s=st.sampled_from([0.0, 0.4, 2.0]))
    def take(self, data: st.DataObject, most: int, bound_s: float) -> None:
        key = span_of(data.draw(st.sampled_from(self.waiting)).ticket)
        before = [entry for entry in self.waiting if span_of(entry.ticket) == key]
        runnable, cancelled, expired = self.queues.take(key, most, self.now_s, bound_s)
        gone = {id(entry.ticket) for entry in runnable} | set(map(id, cancelled + expired))
        assert len(gone) == len(runnable) + len(cancelled) + len(expired), "nobody is in two places"
        taken = [entry for entry in before if id(entry.ticket) in gone]
        left = [entry for entry in before if id(entry.ticket) not in gone]
        assert len(taken) == len(gone), "only who was waiting here"
        for entry in taken:
            ticket = entry.ticket
            late = self.now_s >= (ticket.expires_s if kind(ticket) != "better" else last_s(ticket) - bound_s)
            assert (ticket in cancelled, ticket in expired) == (
                ticket.cancelled,
                late and not ticket.cancelled,
            )
        assert len(runnable) == most or not left, "nobody is left behind in a batch with room"
        self.in_order(runnable, taken, left)
        self.waiting = [entry for entry in self.waiting if id(entry.ticket) not in gone]

    def in_order(self, runnable: list[Entry], taken: list[Entry], left: list[Entry]) -> None:
        """Of each kind those due first; who has an answer last of all; the overdue leave half of the room."""
        for each in ("hard", "soft", "better"):
            ordered = [self.rank(entry) for entry in runnable if kind(entry.ticket) == each]
            assert ordered == sorted(ordered)
            gone, rest = ([self.rank(e) for e in part if kind(e.ticket) == each] for part in (taken, left))
            assert not gone or not rest or max(gone) < min(rest)
        in_need = [entry for entry in left if kind(entry.ticket) != "better"]
        assert not in_need or all(kind(entry.ticket) != "better" for entry in taken)
        soft = [entry.ticket.due_s for entry in left if kind(entry.ticket) == "soft"]
        if not soft or len(in_need) == len(soft):
            return
        if min(soft) <= self.now_s:  # and so are all that went before them
            kinds = [kind(entry.ticket) for entry in taken]
            assert abs(kinds.count("hard") - kinds.count("soft")) <= 1
        elif all(entry.ticket.due_s > self.now_s for entry in taken if kind(entry.ticket) == "soft"):
            assert max(entry.ticket.due_s for entry in taken) <= min(entry.ticket.due_s for entry in in_need)

    @staticmethod
    def rank(entry: Entry) -> tuple[float, int]:
        ticket = entry.ticket
        return last_s(ticket) if kind(ticket) == "better" else ticket.due_s, entry.row

    @rule()
    def drop_late(self) -> None:
        dropped = self.queues.drop_late(self.now_s)
        gone = set(map(id, dropped))
        assert len(gone) == len(dropped)
        late = [e for e in self.waiting if kind(e.ticket) == "better" and last_s(e.ticket) <= self.now_s]
        assert {id(entry.ticket) for entry in late} <= gone, "whose deadline has struck is gone, all of them"
        for entry in self.waiting:
            if id(entry.ticket) in gone and entry not in late:
                assert kind(entry.ticket) == "better" and entry.ticket.cancelled
        assert gone <= {id(entry.ticket) for entry in self.waiting}
        self.waiting = [entry for entry in self.waiting if id(entry.ticket) not in gone]

    @invariant()
    def the_views_are_those_of_the_list(self) -> None:
        keys = {span_of(entry.ticket) for entry in self.waiting}
        views = self.queues.views()
        assert {view.key: view for view in views} == {key: self.view(key) for key in keys}
        assert [view.key.span for view in views] == sorted(key.span for key in keys)
        assert len(self.queues) == len(self.waiting)

    def view(self, key: SpanKey) -> SpanView:
        here = [entry.ticket for entry in self.waiting if span_of(entry.ticket) == key]
        assert self.queues.waiting(key) == len(here)
        in_need = [ticket for ticket in here if kind(ticket) != "better"]
        oldest_s = min(ticket.enqueued_s for ticket in here) if in_need == here else -inf
        return SpanView(key, len(here), oldest_s, min((ticket.due_s for ticket in in_need), default=inf))


def kind(ticket: Ticket) -> str:
    if ticket.deadline_s is None:
        return "soft"
    return "better" if ticket.position else "hard"


def last_s(ticket: Ticket) -> float:
    assert ticket.deadline_s is not None
    return ticket.deadline_s


TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=100, stateful_step_count=30)
