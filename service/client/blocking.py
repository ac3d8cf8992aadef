"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
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


class Closing:
    """Something to be closed, at the latest at the end of a ``with`` block."""

    def close(self) -> None:
        """End what is open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """It itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class PredictionStream(WithAnswer, Closing, Iterator[StreamedPrediction]):
    """The predictions for one image, exit by exit, as they arrive.

    The request is sent when the first one is asked for. To leave before the end, close the stream, which ends
    the request: ``with client.stream(image) as predictions: ...``
    """

    def __init__(self, start: Callable[[], PredictionReader]) -> None:
        """``start`` sends the request."""
        self._predictions = self._read(start)

    def __next__(self) -> StreamedPrediction:
        """The next exit's prediction.

        Raises:
            ExitrampError: Of the request, or of the service midway.
        """
        return next(self._predictions)

    def close(self) -> None:
        """End the request, if it has not ended."""
        self._predictions.close()

    def _read(self, start: Callable[[], PredictionReader]) -> Generator[StreamedPrediction, None, None]:
        self._reader = start()
        with closing(self._reader.response) as response, broken_off():
            for piece in response.iter_bytes():
                yield from self._reader.feed(piece)
        self._reader.finish()


class Client(Closing):
    """A service and a pool of connections to it; threads may share one.

    ``with Client() as client: ...``, or ``close`` it when done. What takes images also takes, by name,
    ``budget``, ``limit``, ``deadline_ms``, ``model`` and ``request_id``; see ``service.client.Options``.
    Every method raises ``ExitrampError``; see ``service.client.errors``.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float | None = 30.0,
        retries: int = 0,
        retry_for_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: Of the service.
            api_key: Where keys are configured.
            timeout_s: Longest wait, in seconds, for a connection or for the next bytes; ``None``: for ever.
            retries: How often a request is sent again after 429 or 503, when ``Retry-After`` has passed.
            retry_for_s: No retry starts later than this many seconds after the first attempt.
            transport: How requests are sent, where not over TCP, e.g. ``httpx.HTTPTransport(uds=...)``.
            clock: Seconds since any moment.
            sleep: Waits for so many seconds.
        """
        headers = calls.connection_headers(api_key)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        self._patience = Patience(retries, retry_for_s)
        self._clock, self._sleep = clock, sleep

    def classify(self, image: Image, **options: Unpack[Options]) -> Answer:
        """Classify one image: bytes, a path or a binary file."""
        return self._send(calls.classify(image, **options))

    def classify_many(self, images: Iterable[Image], **options: Unpack[Options]) -> Answer:
        """Classify 1 to 64 images in one request, whose sum never exceeds their number times ``budget``.

        An image that cannot be used has a ``FailedImage`` in its place; a lone one raises as in ``classify``.

        Raises:
            ValueError: There are more or fewer images.
        """
        return self._send(calls.classify_many(images, **options))

    def stream(self, image: Image, **options: Unpack[Options]) -> PredictionStream:
        """Classify one image and get what each exit says as soon as it is reached."""
        call = calls.stream(image, **options)
        return PredictionStream(lambda: self._send(call))

    def explain(self, image: Image, **options: Unpack[Options]) -> Explanation:
        """Classify one image and draw the class-activation map of its class."""
        return self._send(calls.explain(image, **options))

    def models(self) -> tuple[Model, ...]:
        """All loaded models."""
        return self._send(calls.models())

    def model(self, name: str) -> Model:
        """One loaded model, by ``name``, ``name@version`` or task."""
        return self._send(calls.model(name))

    def ready(self) -> bool:
        """Whether models are loaded and warm, and the service is not shutting down; never retried."""
        return self._send(calls.ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, call: Call[T]) -> T:
        started_s, retried = self._clock(), 0
        while True:
            try:
                with broken_off():
                    response = self._http.send(call.request(self._http), stream=call.streams)
                    if call.streams and not is_stream(response):
                        with closing(response):  # nobody else will
                            response.read()
                return call.result(response)
            except RetryLater as refused:
                self._sleep(self._patience.pause_s(refused, retried, self._clock() - started_s))
                retried += 1
