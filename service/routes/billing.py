"""What a request is charged: set aside before it runs, and settled however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)

from model_store.policy import Plan
from service.engine.loaded import LoadedModel
from service.engine.ticket import Prediction
from service.errors import QuotaExhausted, ServiceError
from service.family import Choice
from service.keys import Client
from service.quotas import Bucket, Reservation
from service.routes.bodies import Decoded


def most_flops(plan: Plan, decoded: Decoded) -> float:
    """FLOPs that the usable images can cost at most: several under a mean budget have an exact sum."""
    images = sum(not isinstance(image, ServiceError) for image in decoded)
    exact = images > 1 and plan.budget is not None
    return images * (plan.allowed if exact else plan.costs[-1])


@contextmanager
def undone_if_unanswered(choice: Choice) -> Iterator[list[int]]:
    """A bill for the FLOPs of each answered image; with none on it, the choice is undone."""
    bill: list[int] = []
    try:
        yield bill
    finally:
        if not bill:
            choice.undo()


def paid(
    client: Client | None,
    most: float,
    bill: Sequence[int],
    in_time: AbstractAsyncContextManager[None] | None = None,
) -> AbstractAsyncContextManager[None]:
    """Reserve ``most`` FLOPs from the client's quota; however it ends, only what is on the bill is charged.

    Args:
        client: Who pays, or ``None``.
        most: FLOPs.
        bill: What was spent, once this ends.
        in_time: Bounds how long reserving may take: the account may be in another process.

    Raises:
        QuotaExhausted: There is not so much left.
    """
    if client is None or client.bucket is None:
        return nullcontext()
    return _paid(client.bucket, most, bill, in_time)


@asynccontextmanager
async def _paid(
    bucket: Bucket, most: float, bill: Sequence[int], in_time: AbstractAsyncContextManager[None] | None
) -> AsyncIterator[None]:
    if in_time is None:
        reservation = await bucket.reserve(most, time.monotonic())
    else:
        reservation = await _reserved(bucket, most, in_time)
    try:
        yield
    finally:
        await bucket.settle(reservation, sum(bill), time.monotonic())


async def _reserved(bucket: Bucket, most: float, in_time: AbstractAsyncContextManager[None]) -> Reservation:
    """Reserve within ``in_time``; what is granted too late is given back."""
    reserving = asyncio.ensure_future(bucket.reserve(most, time.monotonic()))
    try:
        async with in_time:
            return await asyncio.shield(reserving)
    except BaseException:
        # It may also have been granted in the very moment.
        if not reserving.done() or not (reserving.cancelled() or reserving.exception()):
            _LATE.add(giving_back := asyncio.ensure_future(_give_back(bucket, reserving)))
            giving_back.add_done_callback(_LATE.discard)
        raise


_LATE: set[asyncio.Future[None]] = set()
"""Reservations that are on their way to be given back: the event loop itself holds tasks only weakly."""


async def _give_back(bucket: Bucket, reserving: asyncio.Future[Reservation]) -> None:
    with suppress(QuotaExhausted):
        await bucket.settle(await reserving, 0, time.monotonic())


class Told:
    """What a client has been told on the way to its answer, and must pay even if it then leaves.

    Attributes:
        flops: Spent up to each exit that it was told of.
    """

    def __init__(self, passing: Callable[[LoadedModel, Prediction], None] | None) -> None:
        """Tell ``passing``."""
        self.flops: list[int] = []
        self._told = passing

    @property
    def passing(self) -> Callable[[LoadedModel, Prediction], None] | None:
        """For the engine; ``None`` where nobody wants to know."""
        return None if self._told is None else self._pass

    def _pass(self, model: LoadedModel, prediction: Prediction) -> None:
        assert self._told is not None
        self.flops.append(prediction.flops)
        self._told(model, prediction)
