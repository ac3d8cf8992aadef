"""Other ways to schedule, to hold the service's own against. Nothing here serves anybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.engine.queue import Entry, Heap, SpanKey, SpanQueues, SpanView, Waiting, span_of
from service.engine.scheduler import Pick, most_urgent
from service.engine.ticket import Ticket


@dataclass(frozen=True)
class Policy:
    """A rule for the launch and the queues that it looks at."""

    pick: Pick = most_urgent
    queues: Callable[[], SpanQueues] = SpanQueues


def deepest(due: Sequence[SpanView], waiting: Sequence[SpanView]) -> SpanView:
    """The span that is closest to its end."""
    return due[0]


def largest(due: Sequence[SpanView], waiting: Sequence[SpanView]) -> SpanView:
    """The span with the most images; of several the deepest."""
    return max(due, key=lambda view: view.waiting)


def earliest(due: Sequence[SpanView], waiting: Sequence[SpanView]) -> SpanView:
    """The span with the earliest deadline; of several the deepest."""
    return min(due, key=lambda view: view.due_s)


class _Equals(Waiting):
    """Whoever has an answer in hand counts as much as whoever has none."""

    def heap(self, ticket: Ticket) -> Heap:
        return self.soft if ticket.deadline_s is None else self.hard

    def following(self, now_s: float) -> Heap:
        return min((heap for heap in (self.hard, self.soft) if heap), key=lambda heap: heap[0][0], default=[])


class EqualQueues(SpanQueues):
    """Order by deadlines alone, whatever answers are in hand."""

    waiting_kind = _Equals


class BatchKey(SpanKey):
    """A span of one batch."""

    batch: Any

    def __eq__(self, other: object) -> bool:
        """Only of the same batch."""
        return isinstance(other, BatchKey) and self.batch is other.batch and super().__eq__(other)

    def __hash__(self) -> int:
        """By the batch, too."""
        return hash((*self, id(self.batch)))


class ApartQueues(SpanQueues):
    """Survivors of different batches never go together."""

    def key_of(self, entry: Entry) -> SpanKey:
        """By span and by the batch that the ticket comes from."""
        key = BatchKey(*span_of(entry.ticket))
        key.batch = entry.batch
        return key


POLICIES: Mapping[str, Policy] = {
    "due first (served)": Policy(),
    "deepest first": Policy(deepest),
    "largest first": Policy(largest),
    "earliest deadline": Policy(earliest, EqualQueues),
}
"""By name; the first is what is served."""

NOT_MERGING = Policy(queues=ApartQueues)
"""What is served, without merging survivors of different batches."""
