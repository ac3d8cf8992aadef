"""What becomes of quotas while the Redis that replicas share is gone: no request fails, none hangs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from quota_replicas import Clock, fresh_name, replica, reserved, spend
from redis_process import RedisProcess, running_redis

from service.metrics import Metrics
from service.quotas import Reservation
from service.shared_quotas import QuotaStore, SharedBucket

RATE, BURST = 1_000, 2_000


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    """A Redis that a test may end."""
    with running_redis(tmp_path) as process:
        yield process


def is_up(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("exitramp_quota_store_up", {"store": "redis"})


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("service")]


async def until(store: QuotaStore, bucket: SharedBucket, now_s: Callable[[], float]) -> Reservation:
    """Ask until an answer comes from Redis again; the first request after a while only sends a probe."""
    deadline_s = time.monotonic() + 30
    while True:
        reservation = await bucket.reserve(0, now_s())
        if reservation.id:
            return reservation
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


async def test_without_redis_each_replica_goes_on_from_what_was_left_and_finds_it_again(
    own_redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, name = Metrics(), fresh_name()
    caplog.set_level(logging.INFO)
    async with replica(own_redis.url, metrics, clock_us=Clock()) as store:
        bucket = store.open(name, RATE, BURST)
        await store.probe(0.0)
        assert is_up(metrics) == 1
        held = await bucket.reserve(1_500, 0.0)
        own_redis.stop()
        assert await reserved(bucket, 501, 0.0) is None  # a refusal of its own, no failure
        local = await bucket.reserve(500, 0.0)
        assert await reserved(bucket, 101, 0.1) is None
        assert is_up(metrics) == 0
        assert await bucket.settle(held, 100, 0.1) == 0
        assert await bucket.settle(local, 400, 0.1) == 100
        assert await reserved(bucket, 201, 0.1) is None
        own_redis.start()
        assert (await bucket.reserve(1, 0.9)).id == ""  # too early for a probe
        reservation = await until(store, bucket, itertools.count(1.0, 0.01).__next__)
        assert is_up(metrics) == 1
        assert await bucket.settle(reservation, 0, 3.0) == 0
        assert await bucket.settle(await bucket.reserve(BURST, 3.0), 0, 3.0) == BURST  # it came back empty
    assert events(caplog) == ["quota_store_lost", "quota_store_found"]
    assert "Connect" in vars(caplog.records[0])["reason"]


async def test_a_redis_that_was_restarted_between_two_requests_is_no_outage(
    own_redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with replica(own_redis.url) as store:
        bucket = store.open(fresh_name(), RATE, BURST)
        held = await bucket.reserve(BURST, 0.0)
        own_redis.stop()
        own_redis.start()
        for _ in range(5):  # turns of the event loop, in which it sees that its connection was closed
            await asyncio.sleep(0)
        assert await bucket.settle(held, 1_000, 0.0) == 1_000
        assert (await bucket.reserve(10, 0.0)).id
    assert events(caplog) == []


async def test_a_redis_that_hangs_delays_those_who_wait_for_it_once_and_nobody_after_them(
    own_redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    async with replica(own_redis.url, metrics, wait_s=1.0) as store:
        bucket = store.open(fresh_name(), RATE, BURST)
        await until(store, bucket, time.monotonic)
        with own_redis.frozen():
            started_s = time.monotonic()
            all_at_once = await asyncio.gather(*(bucket.reserve(10, started_s) for _ in range(40)))
            waited_s = time.monotonic() - started_s
            assert not any(reservation.id for reservation in all_at_once)
            assert 0.9 < waited_s < 20
            for later_s in range(60):  # a probe runs beside some of them
                await bucket.settle(await bucket.reserve(10, started_s + later_s), 10, started_s + later_s)
            assert time.monotonic() - started_s - waited_s < 20
            assert is_up(metrics) == 0
        assert (await until(store, bucket, time.monotonic)).id
        assert is_up(metrics) == 1
    assert events(caplog)[0] == "quota_store_lost"


@pytest.mark.parametrize(
    "answer", [b"", b"-NOAUTH Authentication required.\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
async def test_whatever_answers_in_the_place_of_redis_nothing_fails(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answer and await reader.read(65536):
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, replica(f"redis://:secret@127.0.0.1:{port}/0") as store:
        bucket = store.open(fresh_name(), RATE, BURST)
        await store.probe(0.0)
        assert await spend(bucket, BURST) == BURST
        assert await reserved(bucket, 1) is None
    assert events(caplog) == ["quota_store_lost"]
    assert "secret" not in str(vars(caplog.records[0]))


async def test_a_cancelled_request_leaves_the_account_usable(own_redis: RedisProcess) -> None:
    async with replica(own_redis.url) as store:
        bucket = store.open(fresh_name(), RATE, BURST)
        await until(store, bucket, time.monotonic)
        with own_redis.frozen():
            tasks = [asyncio.create_task(bucket.reserve(1, 0.0)) for _ in range(40)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
        found = await asyncio.gather(*(bucket.reserve(1, 0.0) for _ in range(40)))
        assert all(reservation.id for reservation in found)
