"""Which span to launch next: a pure function of what waits and of the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from service.engine.queue import SpanKey, SpanView


@dataclass(frozen=True, slots=True)
class Launch:
    """Run a batch of this span now; ``dear``: a short one."""

    key: SpanKey
    dear: bool = False


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing is due before ``time_s``; ``None``: before something arrives."""

    time_s: float | None


Pick = Callable[[Sequence[SpanView], Sequence[SpanView]], SpanView]
"""Of the due spans (deepest first, at least one) and all that wait (shallowest first), the one to launch."""


def most_urgent(due: Sequence[SpanView], waiting: Sequence[SpanView]) -> SpanView:
    """The span whose tickets need their answers first; of those in equal need, the deepest.

    Its tickets hold memory and are closest to an answer. What only makes answers better never goes before
    somebody without one, who then does not wait for company either.
    """
    first = min(due, key=lambda view: view.due_s)
    if first.due_s == inf:
        return min((view for view in waiting if view.due_s < inf), key=lambda view: view.due_s, default=first)
    return first


def choose(
    views: Sequence[SpanView],
    *,
    now_s: float,
    max_batch: int,
    max_wait_s: float,
    arriving: int = 1,
    pick: Pick = most_urgent,
) -> Launch | WaitUntil:
    """Decide what the idle device does.

    A span is due when its batch is full, when its oldest ticket has waited ``max_wait_s`` (the window opens
    at the first arrival), when nobody is on the way who could join it, or when only dear ones would go else.

    Args:
        views: Queues that are not empty, shallowest first.
        now_s: Monotonic time, seconds.
        max_batch: Tickets that one launch takes.
        max_wait_s: Longest wait for company, seconds.
        arriving: Requests admitted but not yet queued (being received or decoded).
        pick: Which of several due spans goes first.
    """
    due: list[SpanView] = []
    wake_at: list[float] = []
    for view in reversed(views):
        full_s = view.oldest_arrival_s + max_wait_s
        if view.waiting >= max_batch or now_s >= full_s or not arriving:
            due.append(view)
        wake_at.append(full_s)
    if not due:
        return WaitUntil(min(wake_at, default=None))
    if all(view.dear for view in due):  # while that runs others would wait longer than for company
        due = [view for view in reversed(views) if view in due or not view.dear]
    picked = pick(due, views)
    return Launch(picked.key, picked.dear)
