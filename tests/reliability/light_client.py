"""A client that costs next to nothing, so that a test on the server's own cores measures the server.

``python light_client.py URL HEADER CONNECTIONS SECONDS IMAGE...`` floods.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvloop


def request(image: bytes, header: str) -> bytes:
    """A whole request to classify ``image`` under ``header``."""
    head = f"POST /classify HTTP/1.1\r\nHost: test\r\n{header}\r\nContent-Length: {len(image)}\r\n\r\n"
    return head.encode() + image


class Connection:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> Connection:
        place = urlsplit(url)
        return cls(*await asyncio.open_connection(place.hostname, place.port))

    async def ask(self, sent: bytes) -> float:
        """Seconds until the whole answer, which must be a 200, is there."""
        started_s = time.perf_counter()
        self._writer.write(sent)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        await self._reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        return time.perf_counter() - started_s

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def flood(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> None:
    """As many clients as there are ``connections``, each of which sends one request after the other."""
    end_s = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = await Connection.open(url)
        while time.perf_counter() < end_s:
            await connection.ask(requests[number % len(requests)])
            number += connections
        await connection.close()

    await asyncio.gather(*map(client, range(connections)))


def main() -> None:
    url, header, connections, seconds, *images = sys.argv[1:]
    requests = [request(Path(image).read_bytes(), header) for image in images]
    uvloop.run(flood(url, requests, int(connections), float(seconds)))


if __name__ == "__main__":
    main()
