"""Clients that hold connections and hardly send anything; a process of their own, beside the measured one."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from dataclasses import dataclass, field

HEAD = b"POST /classify HTTP/1.1\r\nHost: x\r\n"
KINDS = {
    "idle": (500, b"", b""),
    "header": (200, HEAD, b"X-Slow: " + b"x" * 1000),
    "body": (50, HEAD + b"Content-Length: 1000\r\n\r\n", b"x" * 1000),
}
"""How many there are, what each sends at once, and what follows byte by byte."""

DRIP_S = 0.5
SPREAD_S = 5.0
"""In which all of them come, so that they do not all end at once."""


@dataclass
class Slow(asyncio.Protocol):
    """One connection: ``ended`` once the server has closed it."""

    ended: asyncio.Future[None]
    transport: asyncio.Transport | None = field(default=None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def hold(kind: str, port: int, number: int, ages_s: dict[str, list[float]]) -> None:
    """Hold a connection, and a new one as soon as it is closed; note how old each of them became."""
    count, at_once, dripped = KINDS[kind]
    loop = asyncio.get_running_loop()
    await asyncio.sleep(SPREAD_S * number / count)
    while True:
        slow = Slow(loop.create_future())
        opened_s = loop.time()
        await loop.create_connection(lambda slow=slow: slow, "127.0.0.1", port)  # type: ignore[misc]
        assert slow.transport is not None
        slow.transport.write(at_once)
        for place in range(len(dripped)):
            if (await asyncio.wait([slow.ended], timeout=DRIP_S))[0]:
                break
            slow.transport.write(dripped[place : place + 1])
        await slow.ended
        ages_s[kind].append(loop.time() - opened_s)


async def attack(port: int, seconds: float) -> dict[str, list[float]]:
    """All of them for ``seconds`` after the last has come."""
    ages_s: dict[str, list[float]] = {kind: [] for kind in KINDS}
    holding = [
        asyncio.ensure_future(hold(kind, port, number, ages_s))
        for kind, (count, _, _) in KINDS.items()
        for number in range(count)
    ]
    await asyncio.sleep(SPREAD_S)
    sys.stdout.write("all are there\n")
    sys.stdout.flush()
    await asyncio.wait(holding, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for one in holding:
        if one.done():
            one.result()
        one.cancel()
    return ages_s


if __name__ == "__main__":
    os.nice(19)  # attackers bring processors of their own; these would take the server's
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.stdout.write(json.dumps(asyncio.run(attack(int(sys.argv[1]), float(sys.argv[2])))) + "\n")
