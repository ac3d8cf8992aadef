"""Deadlines of requests, in whichever process they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from service.errors import DeadlineExceeded


def in_time(started_s: float, deadline_ms: float | None) -> AbstractAsyncContextManager[None]:
    """Give up when the deadline, if there is one, strikes: raises ``DeadlineExceeded``."""
    return nullcontext() if deadline_ms is None else _until(started_s, deadline_ms)


@asynccontextmanager
async def _until(started_s: float, deadline_ms: float) -> AsyncIterator[None]:
    left_s = started_s + deadline_ms / 1000 - time.monotonic()
    try:
        async with asyncio.timeout(left_s):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the deadline of {deadline_ms:g} ms passed before the image was decoded and paid for"
        ) from error
