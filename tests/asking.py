"""One way to ask through either client, so that every test of one is a test of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from service.client import (
    Answer,
    AsyncClient,
    AsyncPredictionStream,
    Client,
    ExitrampError,
    PredictionStream,
    StreamedPrediction,
)

Handler = Callable[[httpx.Request], httpx.Response]


@dataclass
class Time:
    """A clock that moves when somebody sleeps."""

    now_s: float = 100.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s

    async def pause(self, seconds: float) -> None:
        self.sleep(seconds)


@dataclass
class Streamed:
    """What came of a stream."""

    predictions: list[StreamedPrediction] = field(default_factory=list)
    answer: Answer | None = None
    error: ExitrampError | None = None


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised in its place."""

    def __init__(self, pieces: Iterable[bytes | Exception]) -> None:
        self._pieces = list(pieces)
        self.given, self.closed = 0, False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            self.given += 1
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Blocking:
    """Through ``Client``."""

    def client(self, handler: Handler, time: Time, **settings: Any) -> Client:
        transport = httpx.MockTransport(handler)
        return Client("http://test", transport=transport, clock=time.clock, sleep=time.sleep, **settings)

    def call(self, handler: Handler, method: str, *arguments: Any, **more: Any) -> Any:
        settings, options = split(more)
        with self.client(handler, **settings) as client:
            return getattr(client, method)(*arguments, **options)

    def stream(self, handler: Handler, *, take: int = 99, **more: Any) -> Streamed:
        came = Streamed()
        settings, _ = split(more)
        client = self.client(handler, **settings)
        with client, client.stream(b"image", budget="25M") as stream:
            try:
                for prediction in stream:
                    assert ended(stream) is None
                    came.predictions.append(prediction)
                    if len(came.predictions) == take:
                        break
            except ExitrampError as error:
                came.error = error
            came.answer = ended(stream)
        return came


class Asynchronous:
    """Through ``AsyncClient``."""

    def client(self, handler: Handler, time: Time, **settings: Any) -> AsyncClient:
        transport = httpx.MockTransport(handler)
        return AsyncClient("http://test", transport=transport, clock=time.clock, sleep=time.pause, **settings)

    def call(self, handler: Handler, method: str, *arguments: Any, **more: Any) -> Any:
        settings, options = split(more)

        async def ask() -> Any:
            async with self.client(handler, **settings) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(ask())

    def stream(self, handler: Handler, *, take: int = 99, **more: Any) -> Streamed:
        return asyncio.run(self._stream(handler, take, split(more)[0]))

    async def _stream(self, handler: Handler, take: int, settings: dict[str, Any]) -> Streamed:
        came = Streamed()
        client = self.client(handler, **settings)
        async with client, client.stream(b"image", budget="25M") as stream:
            try:
                async for prediction in stream:
                    assert ended(stream) is None
                    came.predictions.append(prediction)
                    if len(came.predictions) == take:
                        break
            except ExitrampError as error:
                came.error = error
            came.answer = ended(stream)
        return came


def ended(stream: PredictionStream | AsyncPredictionStream) -> Answer | None:
    """The answer of a stream, if it is there."""
    try:
        return stream.answer
    except RuntimeError as error:
        assert "before its end" in str(error)
        return None


def split(more: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the client, and those of its method."""
    names = ("api_key", "retries", "retry_for_s", "time")
    settings = {name: value for name, value in more.items() if name in names}
    return {"time": Time(), **settings}, {name: value for name, value in more.items() if name not in names}
