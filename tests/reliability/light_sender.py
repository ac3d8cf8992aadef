"""Sends pictures for a fraction of what a library's client takes: it shares the server's cores."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import cycle
from urllib.parse import urlsplit

from loadtest.generator import KEPT, Run, Sample
from loadtest.images import Picture

LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


class Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """The whole answer, head and body; empty if the server closes the connection."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._answer.set_result(b"")
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) >= int(length) and self._answer is not None:
            received, self._received = self._received, b""
            self._answer.set_result(received)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(b"")


class LightSender:
    """Sends pictures in turn over connections that are open already; answers are read when all are there."""

    def __init__(self, lines: list[Line], pictures: Sequence[Picture]) -> None:
        self._free = lines
        self._pictures = cycle(pictures)
        self._answers: list[tuple[Sample, bytes]] = []

    @classmethod
    async def connected(cls, url: str, lines: int, pictures: Sequence[Picture]) -> LightSender:
        """With so many connections, each of which has had an answer: others are closed after 5 s."""
        place, opened = urlsplit(url), []
        for _ in range(lines):
            loop = asyncio.get_running_loop()
            _, line = await loop.create_connection(Line, place.hostname, place.port)
            assert await line.ask(LIVE)
            opened.append(line)
        return cls(opened, pictures)

    async def send(self, run: Run, due_s: float) -> Sample:
        """Send one picture, over the connection that was used last: its memory is warm."""
        picture = next(self._pictures)
        while not self._free:  # the client is behind then, and says so
            await asyncio.sleep(0.001)
        line = self._free.pop()
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture.content)}\r\n\r\n"
        sample = Sample(due_s, time.perf_counter(), picture=picture)
        answer = await line.ask(head.encode() + picture.content)
        sample.done_s, sample.status = time.perf_counter(), answer[9:12].decode() or "closed"
        self._free.append(line)
        run.samples.append(sample)
        self._answers.append((sample, answer))
        return sample

    def end(self) -> None:
        """Close the connections, and enter what the answers say."""
        for line in self._free:
            line.close()
        for sample, answer in self._answers:
            head, _, body = answer.partition(b"\r\n\r\n")
            sample.retry_after = b"\r\nretry-after: " in head.lower()
            if sample.status == "200":
                said = json.loads(body)
                (prediction,) = said["predictions"]
                sample.model, sample.prediction = said["model"], {name: prediction[name] for name in KEPT}
                assert sample.picture is not None
                sample.right = sample.picture.shown_by(prediction)
        self._answers.clear()
