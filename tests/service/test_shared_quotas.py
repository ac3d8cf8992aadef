"""Accounts that replicas share through a real Redis."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quota_replicas import SECOND, Clock, fresh_name, replica, reserved, spend
from redis.asyncio import Redis
from redis_process import RedisProcess

from service.errors import QuotaExhausted
from service.quotas import MOST_FLOPS, Bucket, Reservation, TokenBucket
from service.shared_quotas import LEASE_S, PREFIX, QuotaStore

RATE, BURST = 1_000, 2_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(redis: RedisProcess, clock: Clock) -> AsyncIterator[QuotaStore]:
    async with replica(redis.url, clock_us=clock) as store:
        yield store


@pytest.fixture
async def client(redis: RedisProcess) -> AsyncIterator[Redis]:
    """For a look behind the accounts."""
    async with Redis.from_url(redis.url) as client:
        yield client


# Microseconds since the last step, FLOPs to reserve, share of that to spend, reservations to settle first.
FLOPS = st.one_of(st.integers(0, 10), st.integers(0, 10**9), st.integers(MOST_FLOPS - 5, MOST_FLOPS))
TIME = st.one_of(st.integers(0, 3), st.integers(0, 3 * SECOND), st.integers(0, 20_000 * SECOND))
STEP = st.tuples(TIME, FLOPS, st.floats(0, 2), st.integers(0, 3))


async def answers(bucket: Bucket, clock: Clock, steps: list[tuple[int, int, float, int]]) -> list[object]:
    """Everything that ``bucket`` says while ``steps`` are played."""
    said: list[object] = []
    start_us, waiting = clock.now_us, list[tuple[Reservation, int]]()
    for elapsed_us, flops, share, settle in steps:
        clock.now_us += elapsed_us
        now_s = (clock.now_us - start_us) / SECOND
        for reservation, spent in waiting[:settle]:
            said.append(await bucket.settle(reservation, spent, now_s))
        del waiting[:settle]
        try:
            reservation = await bucket.reserve(flops, now_s)
        except QuotaExhausted as error:
            said.append((error.detail, error.headers["Retry-After"]))
        else:
            said.append(reservation.flops)
            waiting.append((reservation, min(int(flops * share), MOST_FLOPS)))
    return said


@given(rate=FLOPS.filter(bool), burst=FLOPS.filter(bool), steps=st.lists(STEP, max_size=40))
async def test_step_by_step_the_shared_account_says_what_that_of_one_process_says(
    redis: RedisProcess, rate: int, burst: int, steps: list[tuple[int, int, float, int]]
) -> None:
    clock = Clock()
    async with replica(redis.url, clock_us=clock, lease_s=10**9) as store:
        shared = await answers(store.open(fresh_name(), rate, burst), clock, steps)
    assert shared == await answers(TokenBucket(rate, burst), Clock(), steps)


async def test_of_many_reservations_at_once_exactly_as_many_are_admitted_as_there_is_room_for(
    redis: RedisProcess, clock: Clock
) -> None:
    name = fresh_name()
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(replica(redis.url, clock_us=clock)) for _ in range(3)]
        buckets = [store.open(name, RATE, BURST) for store in stores]
        found = await asyncio.gather(*(reserved(buckets[i % 3], BURST // 50) for i in range(300)))
        held = [(buckets[i % 3], reservation) for i, reservation in enumerate(found) if reservation]
        assert len(held) == 50
        assert len({reservation.id for _, reservation in held}) == 50
        await asyncio.gather(*(bucket.settle(reservation, 0, 0.0) for bucket, reservation in held))
        assert await spend(buckets[0], BURST) == BURST
        assert await reserved(buckets[1], 1) is None


async def test_a_debt_is_everybodys(redis: RedisProcess, clock: Clock) -> None:
    name = fresh_name()
    async with replica(redis.url, clock_us=clock) as one, replica(redis.url, clock_us=clock) as other:
        assert await spend(one.open(name, RATE, BURST), 3 * BURST) == 3 * BURST
        with pytest.raises(QuotaExhausted, match="has 0 of 2000") as caught:
            await other.open(name, RATE, BURST).reserve(1, 0.0)
        assert caught.value.headers["Retry-After"] == "5"  # 4,000 owed and 1 wanted
        clock.now_us += 4 * SECOND
        assert await reserved(other.open(name, RATE, BURST), 1) is None
        clock.now_us += 1_000
        assert await reserved(other.open(name, RATE, BURST), 1)


async def test_what_a_crashed_replica_reserved_comes_back_after_the_lease_and_not_before(
    redis: RedisProcess, store: QuotaStore, clock: Clock
) -> None:
    name = fresh_name()
    async with replica(redis.url, clock_us=clock) as crashed:
        assert await crashed.open(name, RATE, BURST).reserve(BURST - 100, 0.0)
    bucket = store.open(name, RATE, BURST)
    clock.now_us += round(LEASE_S * SECOND) - 1
    assert await reserved(bucket, 101) is None
    clock.now_us += 1
    assert await spend(bucket, BURST) == BURST


async def test_a_request_that_outlives_its_lease_is_charged_once(store: QuotaStore, clock: Clock) -> None:
    bucket = store.open(fresh_name(), RATE, BURST)
    slow = await bucket.reserve(BURST, 0.0)
    clock.now_us += round(LEASE_S * SECOND)
    assert await spend(bucket, 300) == 300
    assert await bucket.reserve(100, 0.0)
    assert await bucket.settle(slow, 500, 0.0) == 1_500
    assert await reserved(bucket, 1_101) is None
    assert await reserved(bucket, 1_100)


async def test_an_account_is_kept_until_it_is_full_again_and_nothing_can_be_held(
    client: Redis, store: QuotaStore
) -> None:
    reserving, spending = (store.open(fresh_name(), RATE, 10**6) for _ in range(2))
    await reserving.reserve(10**6, 0.0)
    for key in reserving.keys:
        assert LEASE_S - 30 < await client.ttl(key) <= LEASE_S + 1
    await spend(spending, 10**6)
    assert 1_000 + LEASE_S - 30 < await client.ttl(spending.keys[0]) <= 1_000 + LEASE_S + 1


async def test_an_account_that_redis_evicted_is_full_and_forgets_what_it_held(
    client: Redis, store: QuotaStore, clock: Clock
) -> None:
    bucket = store.open(fresh_name(), RATE, BURST)
    await bucket.reserve(BURST, 0.0)
    await client.delete(bucket.keys[0])
    clock.now_us += round(LEASE_S * SECOND) - 1
    assert await bucket.reserve(500, 0.0)
    clock.now_us += 1
    assert await reserved(bucket, 1_501) is None
    assert await reserved(bucket, 1_500)


async def test_an_account_whose_reservations_redis_evicted_holds_nothing(
    client: Redis, store: QuotaStore
) -> None:
    bucket = store.open(fresh_name(), RATE, BURST)
    await bucket.reserve(BURST, 0.0)
    await client.delete(bucket.keys[1])
    assert await spend(bucket, BURST) == BURST
    assert await reserved(bucket, 1) is None


async def test_an_idle_account_is_really_gone_after_its_time(redis: RedisProcess, client: Redis) -> None:
    async with replica(redis.url, lease_s=0.01) as store:
        bucket = store.open(fresh_name(), MOST_FLOPS, BURST)
        await spend(bucket, BURST)
        deadline_s = time.monotonic() + 30
        while await client.exists(bucket.keys[0]):
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.1)


async def test_the_largest_quota_is_exact_and_its_debt_has_an_end(store: QuotaStore, clock: Clock) -> None:
    bucket = store.open(fresh_name(), MOST_FLOPS, MOST_FLOPS)
    assert await spend(bucket, 1e300) == MOST_FLOPS  # more than the largest amount counts as that
    for _ in range(9):
        await bucket.settle(Reservation(0, "unknown"), 1e300, 0.0)
    clock.now_us += 3_999_999  # the debt ends at 4e15: 4 seconds
    assert await reserved(bucket, 1) is None
    clock.now_us += 2
    assert await reserved(bucket, 10**9 + 1) is None  # a microsecond regains a billion
    assert await reserved(bucket, 10**9)


async def test_many_microseconds_regain_what_one_long_time_regains(store: QuotaStore, clock: Clock) -> None:
    bucket = store.open(fresh_name(), 999_983, 10**9)
    await spend(bucket, 10**9)
    for _ in range(100):
        clock.now_us += 1
        assert await reserved(bucket, 10**9) is None
    clock.now_us += SECOND - 100
    assert await reserved(bucket, 999_984) is None
    assert await reserved(bucket, 999_983)


async def test_a_clock_that_was_set_back_regains_nothing_and_counts_on(
    store: QuotaStore, clock: Clock
) -> None:
    bucket = store.open(fresh_name(), RATE, BURST)
    await spend(bucket, BURST)
    clock.now_us -= 3_600 * SECOND
    assert await reserved(bucket, 1) is None
    clock.now_us += SECOND
    assert await reserved(bucket, RATE + 1) is None
    assert await reserved(bucket, RATE)


async def test_the_clock_is_that_of_redis(redis: RedisProcess, client: Redis) -> None:
    async with replica(redis.url) as store:
        bucket = store.open(fresh_name(), 10**6, BURST)
        seconds, micros = await client.time()
        await spend(bucket, BURST)
        for monotonic_s in itertools.count(0.0, -1e6):  # whatever the replica takes for the time
            if await reserved(bucket, BURST, monotonic_s):
                break
        later_seconds, later_micros = await client.time()
    assert (later_seconds - seconds) * SECOND + later_micros - micros >= BURST  # one FLOP a microsecond


async def test_another_quota_of_the_same_name_is_another_account(store: QuotaStore) -> None:
    name = fresh_name()
    await spend(store.open(name, RATE, BURST), BURST)
    assert await reserved(store.open(name, RATE, BURST), 1) is None
    assert await spend(store.open(name, RATE, BURST + 1), BURST + 1) == BURST + 1
    assert await spend(store.open(name, RATE + 1, BURST), BURST) == BURST
    assert store.open(name, 1, 2).keys[0] == f"{PREFIX}{{{name}:1:2}}"


@pytest.mark.parametrize("flops", [-1, float("nan"), float("inf")])
async def test_nonsense_flops_are_refused_and_change_nothing(store: QuotaStore, flops: float) -> None:
    bucket = store.open(fresh_name(), RATE, BURST)
    with pytest.raises(ValueError, match="finite and not negative"):
        await bucket.reserve(flops, 0.0)
    held = await bucket.reserve(BURST, 0.0)
    with pytest.raises(ValueError, match="finite and not negative"):
        await bucket.settle(held, flops, 0.0)
    assert await bucket.settle(held, 0, 0.0) == BURST
