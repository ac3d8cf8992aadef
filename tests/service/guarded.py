"""A server with the guarded protocol and little patience, and a client on a bare socket."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import time
from contextlib import suppress
from typing import Any

import pytest

from service.protocol import GuardedProtocol

PATIENCE_S = 5.0  # far beyond every limit here; only a failing test waits so long


class Hasty(GuardedProtocol):
    receive_timeout_s = 0.4
    min_body_bytes_per_s = 1000
    linger_s = 0.5


async def echo_length(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body, after a while for ``/slow``, without reading it for ``/early``."""
    if scope["path"] == "/slow":
        await asyncio.sleep(0.7)
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = b"%d" % size
    if scope["path"] == "/names":
        body = b",".join(name for name, _ in scope["headers"]) + b" " + body
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.send, self.opened_s = self.socket.sendall, time.monotonic()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def drip(self, data: bytes, size: int = 1) -> None:
        """Send 50 pieces of ``size`` bytes per second until the server says something or hangs up."""
        for start in range(0, len(data), size):
            if select.select([self.socket], [], [], 0.02)[0]:
                break
            self.send(data[start : start + size])

    def rest(self) -> tuple[bytes, float]:
        received = b""
        with suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                received += data
        return received, time.monotonic() - self.opened_s

    def answer(self) -> tuple[int, bytes]:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.socket.recv(1) or pytest.fail(f"closed after {received!r}")
        length = int(received.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = b""
        while len(body) < length:
            body += self.socket.recv(length - len(body)) or pytest.fail("closed within the body")
        return int(received.split()[1]), body


def problem(received: bytes) -> tuple[int, str]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head and b"connection: close" in head
    document = json.loads(body)
    assert int(head.split()[1]) == document["status"]
    return document["status"], document["code"]
