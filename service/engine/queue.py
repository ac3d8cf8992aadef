"""Tickets waiting for spans. Knows nothing of clocks, threads or tensors: models and features are opaque."""

from __future__ import annotations

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
    """

    key: SpanKey
    waiting: int
    oldest_arrival_s: float
    due_s: float = inf


def span_of(ticket: Ticket) -> SpanKey:
    """The span that the ticket waits for next."""
    return SpanKey(ticket.model, Span(ticket.first_block, ticket.plan.exits[ticket.position]))


class SpanQueues:
    """One queue for each span that has tickets waiting; whoever is due first is taken first.

    Tickets with equal dues are taken in the order in which they came, and behind all others those that have
    an answer to fall back on when their deadline strikes.

    Source: Liu et al. 1991, "Algorithms for scheduling imprecise computations": what must be done comes
    before what only makes a result better.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._queues: dict[SpanKey, list[tuple[bool, float, int, Entry]]] = {}
        self._opened_s: dict[SpanKey, float] = {}
        self._order = count()

    def __len__(self) -> int:
        """Tickets waiting, all spans together."""
        return sum(map(len, self._queues.values()))

    def put(self, entry: Entry, now_s: float) -> None:
        """Enter the queue of the ticket's next span."""
        entry.ticket.enqueued_s = now_s
        key = span_of(entry.ticket)
        queue = self._queues.setdefault(key, [])
        answered = entry.ticket.deadline_s is not None and entry.ticket.position > 0
        # It went on because this launch fits its deadline: no time for company.
        opened_s = -inf if answered else now_s
        self._opened_s[key] = min(opened_s, self._opened_s.get(key, inf))
        heappush(queue, (answered, entry.ticket.due_s, next(self._order), entry))

    def take(self, key: SpanKey, most: int, now_s: float) -> tuple[list[Entry], list[Ticket], list[Ticket]]:
        """Remove up to ``most`` runnable tickets of one span, those due first.

        Returns:
            The runnable entries, and the cancelled and the expired tickets met on the way.
        """
        queue = self._queues[key]
        runnable: list[Entry] = []
        cancelled: list[Ticket] = []
        expired: list[Ticket] = []
        while queue and len(runnable) < most:
            entry = heappop(queue)[-1]
            ticket = entry.ticket
            if ticket.cancelled:
                cancelled.append(ticket)
            elif ticket.deadline_s is not None and now_s >= ticket.deadline_s:
                expired.append(ticket)
            else:
                runnable.append(entry)
        if queue:
            self._opened_s[key] = min(entry.ticket.enqueued_s for *_, entry in queue)
        else:
            del self._queues[key], self._opened_s[key]
        return runnable, cancelled, expired

    def views(self) -> list[SpanView]:
        """What is waiting, shallowest span first."""
        views = []
        for key, queue in self._queues.items():
            answered, due_s, *_ = queue[0]
            views.append(SpanView(key, len(queue), self._opened_s[key], inf if answered else due_s))
        return sorted(views, key=lambda view: view.key.span)

    def waiting(self, key: SpanKey) -> int:
        """Tickets waiting for one span."""
        return len(self._queues.get(key, ()))
