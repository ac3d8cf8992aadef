"""Accounts that replicas share through Redis, and what happens while it is gone.

Redis's own clock times the accounts, so replicas need no common one. Without an answer within ``WAIT_S`` a
replica goes on by itself: each of its accounts is then one of this process that starts from what Redis said
last, or full. So in an outage of T seconds each replica lets through at most rate·T beyond what was left, and
none of that is charged to the shared account afterwards. Only those who were waiting when Redis went wait for
it. Later requests do not; at most one a second sends a probe that runs beside it. The first probe that
succeeds ends the outage.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import Gauge
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.quota_scripts import RESERVE, SETTLE
from service.quotas import MOST_FLOPS, NANO, Reservation, TokenBucket, exhausted, whole_flops

WAIT_S: Final = 0.5
"""Longest wait for Redis, connecting included, seconds. Shorter, and a busy loop looks like an outage."""

PROBE_INTERVAL_S: Final = 1.0
"""Least time from a failure to the next attempt, seconds."""

LEASE_S: Final = 60.0
"""Time after which a reservation that nobody settled comes back, seconds; requests take less."""

CONNECTIONS: Final = 16
"""Connections to Redis, kept open; who finds all in use waits for one."""

PREFIX: Final = "exitramp:quota:"
"""Of every key in Redis."""

logger = logging.getLogger(__name__)


class StoreDown(Exception):
    """Redis does not answer."""


class QuotaStore:
    """The Redis that holds the accounts, and whether it answers."""

    def __init__(
        self,
        url: str,
        up: Gauge,
        *,
        wait_s: float = WAIT_S,
        lease_s: float = LEASE_S,
        clock_us: Callable[[], int] | None = None,
    ) -> None:
        """Prepare; the first request or ``probe`` connects.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``, see ``redis.asyncio.ConnectionPool.from_url``.
            up: Set to 1 while Redis answers, to 0 while it does not.
            wait_s: Longest wait for it, seconds.
            lease_s: Time after which an unsettled reservation comes back, seconds.
            clock_us: Time in microseconds instead of Redis's own clock, for tests.
        """
        pool = ConnectionPool.from_url(
            url,
            protocol=2,  # costs no round trip, and only its client notices that a connection was closed
            client_name="exitramp",
            retry=Retry(NoBackoff(), 0),  # a script that ran and whose answer was lost must not run again
            socket_timeout=wait_s,
            socket_connect_timeout=wait_s,
        )
        self._redis = Redis.from_pool(pool)
        self._scripts = {source: self._redis.register_script(source) for source in (RESERVE, SETTLE)}
        self._gate = asyncio.Semaphore(CONNECTIONS)
        self._gauge, self._up = up, True
        self._wait_s, self._lease_us, self._clock_us = wait_s, round(lease_s * 1e6), clock_us
        self._tried_s = 0.0
        self._probing: asyncio.Task[None] | None = None

    def open(self, name: str, flops_per_second: int, burst_flops: int) -> SharedBucket:
        """The account of a key, a ``service.keys.OpenBucket``."""
        return SharedBucket(self, name, flops_per_second, burst_flops)

    async def ask(self, bucket: SharedBucket, script: str, now_s: float, *arguments: str | int) -> list[int]:
        """Run ``script`` on the account of ``bucket``.

        Raises:
            StoreDown: Redis does not answer.
        """
        if not self._up:
            if now_s - self._tried_s >= PROBE_INTERVAL_S and self._probing is None:
                self._probing = asyncio.create_task(self.probe(now_s))
            raise StoreDown
        try:
            return await self._run(bucket, script, *arguments)
        except Exception as error:  # whatever a client library may raise: no request fails because of it
            self._note(now_s, error)
            raise StoreDown from error

    async def probe(self, now_s: float) -> None:
        """Find out whether Redis answers as requests need it: an account can be written."""
        try:
            await self._run(self.open("", 1, 1), SETTLE, 0, "", 0)
        except Exception as error:
            self._note(now_s, error)
        else:
            self._note(now_s, None)
        finally:
            self._probing = None

    async def close(self) -> None:
        """Close all connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        await self._redis.aclose()

    async def _run(self, bucket: SharedBucket, script: str, *arguments: str | int) -> list[int]:
        now_us = "" if self._clock_us is None else self._clock_us()
        quota = (bucket.flops_per_second, bucket.burst_flops, self._lease_us, now_us)
        async with asyncio.timeout(self._wait_s), self._gate:
            answer: Any = await self._scripts[script](bucket.keys, (*quota, *arguments))
        return [int(number) for number in answer]

    def _note(self, now_s: float, error: Exception | None) -> None:
        """Take over whether Redis answered; only a change is logged."""
        self._tried_s = now_s
        was_up, self._up = self._up, error is None
        self._gauge.set(self._up)
        if was_up and error is not None:
            reason = f"{type(error).__name__}: {error}"
            logger.warning("quota_store_lost", extra={"reason": reason})
        elif self._up and not was_up:
            logger.info("quota_store_found")


class SharedBucket:
    """An account in Redis, one for all replicas; see ``service.quotas.Bucket``."""

    def __init__(self, store: QuotaStore, name: str, flops_per_second: int, burst_flops: int) -> None:
        """Name the account; rate and burst are 1 to ``MOST_FLOPS``. Another quota is another account."""
        self.flops_per_second = flops_per_second
        self.burst_flops = burst_flops
        # Braces: a Redis cluster keeps both keys on one node.
        account = f"{PREFIX}{{{name}:{flops_per_second}:{burst_flops}}}"
        self.keys = (account, f"{account}:reservations")
        self._store = store
        self._local = TokenBucket(flops_per_second, burst_flops)

    async def reserve(self, flops: float, now_s: float) -> Reservation:
        """See ``Bucket``; more than ``MOST_FLOPS`` count as so many. ``now_s`` times outages alone."""
        wanted = Reservation(min(whole_flops(flops), MOST_FLOPS), secrets.token_hex(8))
        try:
            granted, left, parts = await self._store.ask(self, RESERVE, now_s, wanted.flops, wanted.id)
        except StoreDown:
            return await self._local.reserve(flops, now_s)
        self._local.resume(left, now_s)
        if not granted:
            level = left * NANO + parts * 1000
            raise exhausted(wanted.flops, level, self.flops_per_second, self.burst_flops)
        return wanted

    async def settle(self, reservation: Reservation, spent: float, now_s: float) -> int:
        """See ``Bucket``; 0 if Redis is gone, where the whole reservation comes back after a while."""
        if not reservation.id:
            return await self._local.settle(reservation, spent, now_s)
        used = min(whole_flops(spent), MOST_FLOPS)
        try:
            left, _ = await self._store.ask(self, SETTLE, now_s, reservation.flops, reservation.id, used)
        except StoreDown:
            return 0
        self._local.resume(left, now_s)
        return reservation.flops - used
