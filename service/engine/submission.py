"""The images of one request on their way through the engine, as their route sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest

from service.engine.health import Unwell
from service.engine.ticket import Expired, Outcome, Prediction, Ticket
from service.engine.times import Estimate


class Submission:
    """The images of one request on their way through the engine."""

    def __init__(
        self,
        tickets: Sequence[Ticket],
        deadline_s: float | None,
        way_back: Estimate,
        answered: Callable[[float], None],
        ended: Callable[[Submission], None] = lambda _: None,
    ) -> None:
        """Watch over ``tickets``.

        Args:
            tickets: Of the images.
            deadline_s: As for ``Engine.submit``.
            way_back: Takes how long answers are on their way.
            answered: Is told how long they lay here.
            ended: Is told once nobody waits for outcomes any more.
        """
        self._answered, self._ended = answered, ended
        self._tickets = tickets
        self._deadline_s = deadline_s
        self._way_back: Estimate | None = way_back

    def cancel(self) -> None:
        """Give the images up; their places are free when the next batch is formed."""
        for ticket in self._tickets:
            ticket.cancelled = True
            future = future_of(ticket)
            if not future.cancel() and not future.cancelled():
                future.exception()  # of several one is raised; asyncio would complain about the others

    def give_up(self, reason: Unwell) -> None:
        """Do not wait for the device: under a deadline an answer in hand will do, others get ``reason``."""
        for ticket in self._tickets:
            ticket.cancelled = True
            future = future_of(ticket)
            if future.done():
                continue
            if ticket.deadline_s is not None and ticket.answer is not None:
                future.set_result(ticket.answer)
            else:
                future.set_exception(reason)

    async def outcomes(self) -> list[Outcome]:
        """Wait for all images; whatever ends the wait early gives them up.

        Returns:
            One outcome per image, in order: a ``Prediction``, or ``Expired``.

        Raises:
            LaunchError: The device failed or is ``Unwell``; no image of the request is answered.
            asyncio.CancelledError: The images were given up.
        """
        outcomes: list[Outcome] = []
        try:
            if self._deadline_s is None:
                outcomes = await self._all()
            else:
                await self._until(self._deadline_s)
                outcomes = [_best(ticket) for ticket in self._tickets]
        finally:
            self.cancel()  # changes nothing where the answers are there
            self._ended(self)
            self._count(outcomes)
        return outcomes

    async def _until(self, deadline_s: float) -> None:
        """Wait for all images, and after ``deadline_s`` only for those that have no answer in hand yet."""
        _, waiting = await asyncio.wait(
            map(future_of, self._tickets), timeout=max(0.0, deadline_s - time.monotonic())
        )
        if not waiting:
            return
        self._way_back = None  # these answers have been waiting here
        without = [
            ticket for ticket in self._tickets if ticket.answer is None and not future_of(ticket).done()
        ]
        if without:
            left_s = max(0.0, without[0].expires_s - time.monotonic())
            await asyncio.wait(map(future_of, without), timeout=left_s)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        """Enter what became of the images; without outcomes all have failed."""
        now_s = time.monotonic()
        decided_s: list[float] = []
        for ticket, outcome in zip_longest(self._tickets, outcomes):
            seconds = now_s - ticket.arrival_s
            if isinstance(outcome, Prediction):
                decided_s.append(outcome.decided_s)
                ticket.model.statistics.note_answer(seconds, outcome.times)
            else:
                ticket.model.statistics.note_failure(seconds)
        if decided_s:
            # Under a deadline an answer may have been in hand for long.
            self._answered(now_s - max(decided_s) if self._deadline_s is None else 0.0)

    def answered(self, predictions: Sequence[Prediction]) -> None:
        """Tell that the answer with ``predictions`` is about to be written."""
        if self._way_back is not None and predictions:
            now_s = time.monotonic()
            self._way_back.note(now_s - max(prediction.decided_s for prediction in predictions), now_s)

    async def _all(self) -> list[Outcome]:
        if len(self._tickets) == 1:
            return [await future_of(self._tickets[0])]
        return list(await asyncio.gather(*map(future_of, self._tickets)))


def future_of(ticket: Ticket) -> asyncio.Future[Outcome]:
    """Where the outcome of a request's image goes."""
    assert ticket.future is not None, "background work is delivered to nobody"
    return ticket.future


def _best(ticket: Ticket) -> Outcome:
    """What there is of an answer when the deadline strikes."""
    future = future_of(ticket)
    return future.result() if future.done() else ticket.answer or Expired()
