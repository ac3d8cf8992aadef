"""What a request is charged: set aside before it runs, and settled however it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext

from model_store.policy import Plan
from service.engine.loaded import LoadedModel
from service.engine.ticket import Prediction
from service.errors import ServiceError
from service.family import Choice
from service.keys import Client
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


@asynccontextmanager
async def paid(
    client: Client | None,
    most: float,
    bill: Sequence[int],
    in_time: AbstractAsyncContextManager[None] | None = None,
) -> AsyncIterator[None]:
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
        yield
        return
    async with in_time or nullcontext():
        reservation = await client.bucket.reserve(most, time.monotonic())
    try:
        yield
    finally:
        await client.bucket.settle(reservation, sum(bill), time.monotonic())


class Told:
    """What a client has been told on the way to its answer, and must pay even if it then leaves.

    Attributes:
        flops: Spent up to each exit that it was told of.
        passing: For the engine; ``None`` where nobody wants to know.
    """

    def __init__(self, passing: Callable[[LoadedModel, Prediction], None] | None) -> None:
        """Tell ``passing``."""
        self.flops: list[int] = []
        self.passing = None if passing is None else self._pass
        self._told = passing

    def _pass(self, model: LoadedModel, prediction: Prediction) -> None:
        assert self._told is not None
        self.flops.append(prediction.flops)
        self._told(model, prediction)
