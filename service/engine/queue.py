"""Tickets waiting for spans. Knows nothing of clocks, threads or tensors: models and features are opaque."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any, NamedTuple

from model_store.nets.staged import Span
from service.engine.ticket import Ticket


class SpanKey(NamedTuple):
    """A span of one loaded model; what is loaded anew under the same name is another model."""

    model: Any
    span: Span


class Entry(NamedTuple):
    """A waiting ticket and its features: row ``row`` of ``batch``, or its own image where that is None."""

    ticket: Ticket
    batch: Any
    row: int


class SpanView(NamedTuple):
    """What the scheduler sees of one queue.

    Attributes:
        key: The span that is waited for.
        waiting: Tickets.
        oldest_arrival_s: Since when the first of them waits.
        due_s: When the first of them needs its answer; ``inf`` where all have one in hand.
        dear: Whether its launch is not to keep cheap images waiting.
    """

    key: SpanKey
    waiting: int
    oldest_arrival_s: float
    due_s: float = inf
    dear: bool = False


def span_of(ticket: Ticket) -> SpanKey:
    """The span that the ticket waits for next."""
    return SpanKey(ticket.model, Span(ticket.first_block, ticket.plan.exits[ticket.position]))


Heap = list[tuple[float, int, Entry]]
"""Entries by when they are due or, with an answer in hand, must leave; then as they came."""


@dataclass(slots=True)
class Waiting:
    """Who waits for one span.

    Attributes:
        hard: Under a deadline and without an answer.
        soft: Without a deadline.
        better: Under a deadline, with an answer to fall back on when it strikes.
        opened_s: Since when the first of them waits.
        turn: Of ``hard`` and ``soft``, where both are in need.
    """

    hard: Heap = field(default_factory=list)
    soft: Heap = field(default_factory=list)
    better: Heap = field(default_factory=list)
    opened_s: float = inf
    turn: bool = False

    def __len__(self) -> int:
        """Tickets."""
        return len(self.hard) + len(self.soft) + len(self.better)

    def heap(self, ticket: Ticket) -> Heap:
        """Where ``ticket`` belongs."""
        if ticket.deadline_s is None:
            return self.soft
        return self.better if ticket.position else self.hard

    def following(self, now_s: float) -> Heap:
        """Whose first is to be taken next; empty if nobody waits.

        Overdue tickets, of which there may be any number, and deadlines that can still be met take turns.
        """
        if not (self.hard and self.soft):
            return self.hard or self.soft or self.better
        if self.soft[0][0] > now_s:
            return min(self.hard, self.soft, key=lambda heap: heap[0][0])
        self.turn = not self.turn
        return self.hard if self.turn else self.soft

    @property
    def first(self) -> Ticket:
        """Who is due first; where two kinds are in need, of those under a deadline."""
        return (self.hard or self.soft or self.better)[0][-1].ticket

    @property
    def due_s(self) -> float:
        """When the first answer is needed; ``inf`` where all have one in hand."""
        return min((heap[0][0] for heap in (self.hard, self.soft) if heap), default=inf)


class SpanQueues:
    """One queue for each span that has tickets waiting; whoever is due first is taken first.

    Behind all others are those that have an answer to fall back on when their deadline strikes.

    Source: Liu et al. 1991, "Algorithms for scheduling imprecise computations": what must be done comes
    before what only makes a result better.

    Attributes:
        waiting_kind: Makes a queue.
    """

    waiting_kind = Waiting

    def __init__(self) -> None:
        """Start empty."""
        self._queues: dict[SpanKey, Waiting] = {}
        self._order = count()

    def __len__(self) -> int:
        """Tickets waiting, all spans together."""
        return sum(map(len, self._queues.values()))

    def key_of(self, entry: Entry) -> SpanKey:
        """Which queue an entry belongs to: who has the same key may go together."""
        return span_of(entry.ticket)

    def put(self, entry: Entry, now_s: float) -> None:
        """Enter the queue of the ticket's next span."""
        entry.ticket.enqueued_s = now_s
        waiting = self._queues.setdefault(self.key_of(entry), self.waiting_kind())
        heap = waiting.heap(entry.ticket)
        # With an answer in hand it leaves when its deadline strikes, however long before that it was due.
        last_s = entry.ticket.deadline_s if heap is waiting.better else None
        heappush(heap, (entry.ticket.due_s if last_s is None else last_s, next(self._order), entry))
        # What only makes an answer better went on because this launch fits its deadline: no time for company.
        waiting.opened_s = min(waiting.opened_s, -inf if heap is waiting.better else now_s)

    def take(
        self, key: SpanKey, most: int, now_s: float, bound_s: float = 0.0
    ) -> tuple[list[Entry], list[Ticket], list[Ticket]]:
        """Remove up to ``most`` runnable tickets of one span, those due first.

        Args:
            key: The span.
            most: How many are wanted.
            now_s: Monotonic seconds.
            bound_s: Longest time that the launch will take; who has an answer must not be late because of it.

        Returns:
            The runnable entries, and the cancelled and the expired tickets met on the way.
        """
        waiting = self._queues[key]
        runnable: list[Entry] = []
        cancelled: list[Ticket] = []
        expired: list[Ticket] = []
        while len(runnable) < most and (heap := waiting.following(now_s)):
            entry = heappop(heap)[-1]
            ticket = entry.ticket
            deadline_s = ticket.deadline_s if heap is waiting.better else None
            last_s = ticket.expires_s if deadline_s is None else deadline_s - bound_s
            if ticket.cancelled:
                cancelled.append(ticket)
            elif now_s >= last_s:
                expired.append(ticket)
            else:
                runnable.append(entry)
        self._close(key)
        return runnable, cancelled, expired

    def drop_late(self, now_s: float) -> list[Ticket]:
        """Remove tickets with an answer in hand whose deadline has struck: nobody takes them otherwise."""
        late: list[Ticket] = []
        for key, waiting in list(self._queues.items()):
            before = len(late)
            while waiting.better and _is_late(waiting.better[0][-1].ticket, now_s):
                late.append(heappop(waiting.better)[-1].ticket)
            if len(late) > before:
                self._close(key)
        return late

    def _close(self, key: SpanKey) -> None:
        """Find out anew since when the rest of a queue waits; forget it if it is empty."""
        waiting = self._queues[key]
        if not waiting:
            del self._queues[key]
            return
        since = (entry.ticket.enqueued_s for heap in (waiting.hard, waiting.soft) for *_, entry in heap)
        waiting.opened_s = -inf if waiting.better else min(since)

    def views(self, dear: Callable[[Ticket], bool] = lambda _: False) -> list[SpanView]:
        """What is waiting, shallowest span first; ``dear`` says it of who is due first."""
        views = [
            SpanView(key, len(waiting), waiting.opened_s, waiting.due_s, dear(waiting.first))
            for key, waiting in self._queues.items()
        ]
        return sorted(views, key=lambda view: view.key.span)

    def waiting(self, key: SpanKey) -> int:
        """Tickets waiting for one span."""
        return len(self._queues.get(key, ()))


def _is_late(ticket: Ticket, now_s: float) -> bool:
    return ticket.cancelled or (ticket.deadline_s is not None and now_s >= ticket.deadline_s)
