"""What a request reserves from its key's quota, and what it is charged however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import numpy as np
import pytest

from model_store.policy import Plan
from service.errors import QuotaExhausted, UndecodableImage
from service.keys import Client
from service.quotas import Reservation
from service.routes.answer import ClientLeft
from service.routes.billing import most_flops, paid
from service.routes.bodies import Decoded

IMAGE = np.zeros((3, 1, 1), np.uint8)
BROKEN = UndecodableImage("truncated")
SINGLE = Plan((0,), (40,), (0.0,), None, 55.0, None)
BUDGETED = Plan((0, 1), (20, 100), (0.5, 0.0), 30.0, 30.0, None)


@pytest.mark.parametrize(
    ("plan", "images", "broken", "flops"),
    [
        (SINGLE, 1, 0, 40),
        (SINGLE, 3, 1, 120),
        (BUDGETED, 1, 0, 100),  # over many images the mean is 30, this one may need all
        (BUDGETED, 4, 0, 120),  # their sum is exact
        (BUDGETED, 4, 2, 120),
        (BUDGETED, 1, 3, 100),  # an image that is left alone has no sum to share
        (BUDGETED, 0, 2, 0),
    ],
)
def test_a_request_reserves_what_its_usable_images_can_cost(
    plan: Plan, images: int, broken: int, flops: int
) -> None:
    decoded: Decoded = [*[BROKEN] * broken, *[IMAGE] * images]
    assert most_flops(plan, decoded) == flops


class Account:
    """A bucket that writes down what is asked of it, and admits up to ``room`` FLOPs at a time."""

    def __init__(self, room: float = inf) -> None:
        self.room = room
        self.entries: list[tuple[str, float]] = []

    async def reserve(self, flops: float, now_s: float) -> Reservation:
        if flops > self.room:
            raise QuotaExhausted("not so many", retry_after_s=1)
        self.entries.append(("reserve", flops))
        return Reservation(int(flops), "id")

    async def settle(self, reservation: Reservation, spent: float, now_s: float) -> int:
        assert reservation.id == "id"
        self.entries.append(("settle", spent))
        return reservation.flops - int(spent)


async def test_only_what_is_on_the_bill_is_charged() -> None:
    account, bill = Account(), list[int]()
    async with paid(Client("a", account), 600, bill):
        assert account.entries == [("reserve", 600)]
        bill += [100, 50]
    assert account.entries == [("reserve", 600), ("settle", 150)]


@pytest.mark.parametrize("error", [ClientLeft(), UndecodableImage("broken"), RuntimeError("a bug")])
async def test_a_request_that_fails_or_whose_client_leaves_is_refunded(error: Exception) -> None:
    account = Account()
    with pytest.raises(type(error)):
        async with paid(Client("a", account), 600, []):
            raise error
    assert account.entries == [("reserve", 600), ("settle", 0)]


async def test_a_request_that_is_cut_off_is_refunded() -> None:
    account, running = Account(), asyncio.Event()

    async def request() -> None:
        async with paid(Client("a", account), 600, []):
            running.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(request())
    await running.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert account.entries == [("reserve", 600), ("settle", 0)]


async def test_a_refused_request_runs_nothing_and_settles_nothing() -> None:
    account = Account(room=500)
    with pytest.raises(QuotaExhausted):
        async with paid(Client("a", account), 600, []):
            pytest.fail("it ran")
    assert account.entries == []


@pytest.mark.parametrize("client", [None, Client("free", None)])
async def test_without_a_quota_nothing_is_asked(client: Client | None) -> None:
    async with paid(client, 1e300, []):
        pass


class SlowAccount(Account):
    """Grants what is asked, and says so when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.says = asyncio.Event()

    async def reserve(self, flops: float, now_s: float) -> Reservation:
        reservation = await super().reserve(flops, now_s)
        await self.says.wait()
        return reservation


async def test_what_is_granted_after_the_deadline_is_given_back() -> None:
    account = SlowAccount()
    with pytest.raises(TimeoutError):
        async with paid(Client("a", account), 600, [], asyncio.timeout(0.01)):
            pytest.fail("it ran")
    assert account.entries == [("reserve", 600)]
    account.says.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert account.entries == [("reserve", 600), ("settle", 0)]


async def test_what_is_granted_in_the_moment_of_the_deadline_is_given_back() -> None:
    @asynccontextmanager
    async def struck() -> AsyncIterator[None]:
        yield
        raise TimeoutError

    account = Account()
    with pytest.raises(TimeoutError):
        async with paid(Client("a", account), 600, [], struck()):
            pytest.fail("it ran")
    for _ in range(5):
        await asyncio.sleep(0)
    assert account.entries == [("reserve", 600), ("settle", 0)]


async def test_a_refusal_under_a_deadline_settles_nothing() -> None:
    account = Account(room=500)
    with pytest.raises(QuotaExhausted):
        async with paid(Client("a", account), 600, [], asyncio.timeout(10)):
            pytest.fail("it ran")
    await asyncio.sleep(0)
    assert account.entries == []


async def test_what_is_granted_in_time_runs() -> None:
    account, bill = Account(), [100]
    async with paid(Client("a", account), 600, bill, asyncio.timeout(10)):
        pass
    assert account.entries == [("reserve", 600), ("settle", 100)]
