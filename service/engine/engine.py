"""The engine as the routes see it: permits, submission, cancellation, drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from model_store.policy import Plan
from service.engine.group import Group
from service.engine.loaded import LoadedModel
from service.engine.ticket import Expired, Image, LaunchError, Outcome, Ticket
from service.engine.worker import Delivery, Worker
from service.metrics import Metrics


class NoPermit(Exception):
    """All permits are taken."""


class Permit:
    """Room for one request; ``submitted`` tells that its images are in the queues."""

    __slots__ = ("_engine", "_waiting")

    def __init__(self, engine: Engine) -> None:
        """Count as arriving."""
        self._engine = engine
        self._waiting = True
        engine.arriving += 1

    def submitted(self) -> None:
        """No longer on the way: queued, or failed before."""
        if self._waiting:
            self._waiting = False
            self._engine.arriving -= 1


class Engine:
    """Accepts images from the event loop and answers them from the worker's thread."""

    def __init__(
        self,
        models: Mapping[str, LoadedModel],
        metrics: Metrics,
        *,
        max_in_flight: int,
        max_batch: int,
        max_wait_s: float,
    ) -> None:
        """Prepare; ``start`` must be called on the event loop that submits.

        Args:
            models: Loaded models by key.
            metrics: Where everything is observed.
            max_in_flight: Permits: requests between admission and answer.
            max_batch: Images per launch.
            max_wait_s: Longest wait of a lone image for company, seconds.
        """
        self.models = models
        self.arriving = 0
        self.in_flight = 0
        self._max_in_flight = max_in_flight
        self._metrics = metrics
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker = Worker(
            models,
            metrics,
            self._hand_over,
            max_batch=max_batch,
            max_wait_s=max_wait_s,
            arriving=lambda: self.arriving,
        )

    def start(self) -> None:
        """Start the worker; answers arrive on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._worker.start()

    async def stop(self) -> None:
        """Answer what is queued, then end the worker."""
        await asyncio.to_thread(self._worker.stop)

    @contextmanager
    def admit(self) -> Iterator[Permit]:
        """Hold room for one request, from before its body is decoded until its answer.

        Raises:
            NoPermit: ``max_in_flight`` requests are in already.
        """
        if self.in_flight >= self._max_in_flight:
            raise NoPermit(f"all {self._max_in_flight} permits are taken")
        self.in_flight += 1
        self._metrics.in_flight.set(self.in_flight)
        permit = Permit(self)
        try:
            yield permit
        finally:
            permit.submitted()
            self.in_flight -= 1
            self._metrics.in_flight.set(self.in_flight)

    def submit(
        self,
        model: LoadedModel,
        images: Sequence[Image],
        plan: Plan,
        permit: Permit,
        deadline_s: float | None = None,
    ) -> Submission:
        """Queue the images of one request.

        Several images with a mean budget share one exact sum: never more than ``len(images)`` budgets.

        Args:
            model: One of ``models``.
            images: uint8 (3, H, W) each, at least one.
            plan: From ``model.plan``.
            permit: From ``admit``.
            deadline_s: Time (``time.monotonic``) at which the best answer so far is given, or ``None``.
        """
        tickets = self._tickets(model, images, plan, deadline_s)
        self._worker.submit(tickets)
        permit.submitted()
        return Submission(tickets, deadline_s)

    def _tickets(
        self, model: LoadedModel, images: Sequence[Image], plan: Plan, deadline_s: float | None
    ) -> list[Ticket]:
        assert self._loop is not None, "start() comes first"
        exact = len(images) > 1 and plan.budget is not None
        group = Group(plan, len(images), len(images) * plan.allowed) if exact else None
        ledger = None if exact else model.ledger(plan)
        now_s = time.monotonic()
        return [
            Ticket(
                model=model.key,
                plan=plan,
                image=image,
                arrival_s=now_s,
                future=self._loop.create_future(),
                deadline_s=deadline_s,
                ledger=ledger,
                group=group,
            )
            for image in images
        ]

    def _hand_over(self, delivery: Delivery) -> None:
        """On the worker's thread: one hop to the event loop for the whole launch."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_deliver, delivery)


class Submission:
    """The images of one request on their way through the engine."""

    def __init__(self, tickets: Sequence[Ticket], deadline_s: float | None) -> None:
        """Watch over ``tickets``."""
        self._tickets = tickets
        self._deadline_s = deadline_s

    def cancel(self) -> None:
        """Give the images up; their places are free when the next batch is formed."""
        for ticket in self._tickets:
            ticket.cancelled = True
            ticket.future.cancel()

    async def outcomes(self) -> list[Outcome]:
        """Wait for all images; whatever ends the wait early gives them up.

        Returns:
            One outcome per image, in order: a ``Prediction``, or ``Expired``.

        Raises:
            LaunchError: The device failed; no image of the request is answered.
            asyncio.CancelledError: The images were given up.
        """
        try:
            if self._deadline_s is None:
                return await self._all()
            async with asyncio.timeout(self._deadline_s - time.monotonic()):
                return await self._all()
        except TimeoutError:
            return [_best(ticket) for ticket in self._tickets]
        finally:
            self.cancel()  # changes nothing where the answers are there

    async def _all(self) -> list[Outcome]:
        if len(self._tickets) == 1:
            return [await self._tickets[0].future]
        return list(await asyncio.gather(*(ticket.future for ticket in self._tickets)))


def _deliver(delivery: Delivery) -> None:
    for ticket, outcome in delivery:
        if ticket.future.done():  # the client has left, or its deadline struck
            continue
        if isinstance(outcome, LaunchError):
            ticket.future.set_exception(outcome)
        else:
            ticket.future.set_result(outcome)


def _best(ticket: Ticket) -> Outcome:
    """What there is of an answer when the deadline strikes."""
    if ticket.future.done() and not ticket.future.cancelled():
        return ticket.future.result()
    return ticket.answer or Expired()
