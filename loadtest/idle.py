"""Connections that stay open and ask for next to nothing, as those of browsers and proxies do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.errors import LoadTestError

PAUSE_S = 30.0
"""Between two requests of one connection, at most; servers close those that are idle for longer."""

AT_ONCE = 50
"""Connections that are opened at a time."""


@dataclass
class Idle:
    """How many are open now, and how many the server has closed."""

    open: int = 0
    lost: int = 0


@asynccontextmanager
async def idle_connections(url: str, count: int) -> AsyncIterator[Idle]:
    """Keep ``count`` connections open until the end of the block; each asks for /livez now and then.

    Raises:
        LoadTestError: Not all of them can be opened.
    """
    idle, room = Idle(), asyncio.Semaphore(AT_ONCE)
    place = urlsplit(url)
    request = f"GET /livez HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        await reader.readexactly(int(fields.get(b"content-length", b"0")))

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await asyncio.sleep(random.uniform(0.5, 1) * PAUSE_S)
                await ask(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            idle.open, idle.lost = idle.open - 1, idle.lost + 1
        finally:
            writer.close()

    async def begin() -> asyncio.Task[None]:
        async with room:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            await ask(reader, writer)
        idle.open += 1
        return asyncio.create_task(stay(reader, writer))

    try:
        tasks = await asyncio.gather(*(begin() for _ in range(count)))
    except (OSError, asyncio.IncompleteReadError) as error:
        raise LoadTestError(f"{idle.open} of {count} connections could be opened: {error}") from error
    try:
        yield idle
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
