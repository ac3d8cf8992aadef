"""Replicas as far as quotas are concerned, and what their tests ask of an account."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service.errors import QuotaExhausted
from service.metrics import Metrics
from service.quotas import Bucket, Reservation
from service.shared_quotas import QuotaStore

SECOND = 10**6
"""In microseconds, the unit of the clock."""

_numbers = itertools.count()


def fresh_name() -> str:
    """Of a key that no other test uses."""
    return f"key-{next(_numbers)}"


class Clock:
    """A time that tests set, microseconds; begins where no ``float`` of seconds is exact."""

    def __init__(self) -> None:
        self.now_us = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now_us


@asynccontextmanager
async def replica(url: str, metrics: Metrics | None = None, **options: Any) -> AsyncIterator[QuotaStore]:
    """What one process knows of Redis; it is in no hurry, unless ``options`` say otherwise."""
    up = (metrics or Metrics()).quota_store_up.labels("redis")
    store = QuotaStore(url, up, **{"wait_s": 30.0, **options})
    try:
        yield store
    finally:
        await store.close()


async def reserved(bucket: Bucket, flops: float, now_s: float = 0.0) -> Reservation | None:
    try:
        return await bucket.reserve(flops, now_s)
    except QuotaExhausted:
        return None


async def spend(bucket: Bucket, flops: float, now_s: float = 0.0) -> int:
    reservation = await bucket.reserve(flops, now_s)
    await bucket.settle(reservation, reservation.flops, now_s)
    return reservation.flops
