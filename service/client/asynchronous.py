"""The client for code with ``await``: as ``blocking``, and only sending and waiting differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from service.client import calls
from service.client.answers import Answer, Explanation, Model, StreamedPrediction
from service.client.calls import Call, Image, Options
from service.client.errors import RetryLater, broken_off
from service.client.events import PredictionReader, WithAnswer, is_stream
from service.client.retries import Patience

T = TypeVar("T")


class AsyncClosing:
    """Something to be closed, at the latest at the end of an ``async with`` block."""

    async def aclose(self) -> None:
        """End what is open."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """It itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()


class AsyncPredictionStream(WithAnswer, AsyncClosing, AsyncIterator[StreamedPrediction]):
    """The predictions for one image, exit by exit, as they arrive.

    The request is sent when the first one is asked for. To leave before the end, close the stream, which ends
    the request: ``async with client.stream(image) as predictions: ...``
    """

    def __init__(self, start: Callable[[], Awaitable[PredictionReader]]) -> None:
        """``start`` sends the request."""
        self._predictions = self._read(start)

    async def __anext__(self) -> StreamedPrediction:
        """The next exit's prediction.

        Raises:
            ExitrampError: Of the request, or of the service midway.
        """
        return await anext(self._predictions)

    async def aclose(self) -> None:
        """End the request, if it has not ended."""
        await self._predictions.aclose()

    async def _read(
        self, start: Callable[[], Awaitable[PredictionReader]]
    ) -> AsyncGenerator[StreamedPrediction, None]:
        self._reader = await start()
        async with aclosing(self._reader.response) as response:
            with broken_off():
                async for piece in response.aiter_bytes():
                    for prediction in self._reader.feed(piece):
                        yield prediction
        self._reader.finish()


class AsyncClient(AsyncClosing):
    """A service and a pool of connections to it, for the tasks of one event loop.

    ``async with AsyncClient() as client: ...``, or ``aclose`` it when done. What takes images also takes, by
    name, ``budget``, ``limit``, ``deadline_ms``, ``model`` and ``request_id``; see
    ``service.client.Options``. Every method raises ``ExitrampError``; see ``service.client.errors``.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float | None = 30.0,
        retries: int = 0,
        retry_for_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: Of the service.
            api_key: Where keys are configured.
            timeout_s: Longest wait, in seconds, for a connection or for the next bytes; ``None``: for ever.
            retries: How often a request is sent again after 429 or 503, when ``Retry-After`` has passed.
            retry_for_s: No retry starts later than this many seconds after the first attempt.
            transport: How requests are sent, where not over TCP, e.g. ``httpx.AsyncHTTPTransport(uds=...)``.
            clock: Seconds since any moment.
            sleep: Waits for so many seconds.
        """
        headers = calls.connection_headers(api_key)
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        self._patience = Patience(retries, retry_for_s)
        self._clock, self._sleep = clock, sleep

    async def classify(self, image: Image, **options: Unpack[Options]) -> Answer:
        """Classify one image: bytes, a path or a binary file."""
        return await self._send(calls.classify(image, **options))

    async def classify_many(self, images: Iterable[Image], **options: Unpack[Options]) -> Answer:
        """Classify 1 to 64 images in one request, whose sum never exceeds their number times ``budget``.

        An image that cannot be used has a ``FailedImage`` in its place; a lone one raises as in ``classify``.

        Raises:
            ValueError: There are more or fewer images.
        """
        return await self._send(calls.classify_many(images, **options))

    def stream(self, image: Image, **options: Unpack[Options]) -> AsyncPredictionStream:
        """Classify one image and get what each exit says as soon as it is reached."""
        call = calls.stream(image, **options)
        return AsyncPredictionStream(lambda: self._send(call))

    async def explain(self, image: Image, **options: Unpack[Options]) -> Explanation:
        """Classify one image and draw the class-activation map of its class."""
        return await self._send(calls.explain(image, **options))

    async def models(self) -> tuple[Model, ...]:
        """All loaded models."""
        return await self._send(calls.models())

    async def model(self, name: str) -> Model:
        """One loaded model, by ``name``, ``name@version`` or task."""
        return await self._send(calls.model(name))

    async def ready(self) -> bool:
        """Whether models are loaded and warm, and the service is not shutting down; never retried."""
        return await self._send(calls.ready())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, call: Call[T]) -> T:
        started_s, retried = self._clock(), 0
        while True:
            try:
                with broken_off():
                    response = await self._http.send(call.request(self._http), stream=call.streams)
                    if call.streams and not is_stream(response):
                        async with aclosing(response):  # nobody else will
                            await response.aread()
                return call.result(response)
            except RetryLater as refused:
                await self._sleep(self._patience.pause_s(refused, retried, self._clock() - started_s))
                retried += 1
