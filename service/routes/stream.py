"""``POST /classify/stream``: anytime prediction, an event for each exit as the image reaches it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from service.documents.classification import STREAM
from service.engine.loaded import LoadedModel
from service.engine.ticket import Prediction
from service.errors import InternalError, ServiceError
from service.problems import problem_members
from service.rendering import entry
from service.routes.answer import ClientLeft, answer
from service.routes.answered import Answered, card_of
from service.routes.bodies import one_image
from service.state import service_of

logger = logging.getLogger(__name__)

Passed = asyncio.Queue[tuple[LoadedModel, Prediction]]
"""What exits have said and nobody has been told yet."""

router = APIRouter(tags=["classification"])


@router.post("/classify/stream", **STREAM)
async def stream(request: Request) -> Response:
    """Classify one image and tell what each exit says as soon as it says it.

    Like ``/classify``, as server-sent events: ``prediction`` for each exit, then ``done`` with all else that
    ``/classify`` answers; ``error`` if it fails after the first event. Under a limit every exit on the way is
    consulted and charged.
    """
    started_s = time.monotonic()
    passed: Passed = asyncio.Queue()
    answering = asyncio.create_task(
        answer(request, one_image, passing=lambda model, said: passed.put_nowait((model, said)))
    )
    try:
        first = await _next(passed, answering)
        if first is None:
            answering.result().only  # noqa: B018  # raises what has to be an ordinary error
    except BaseException:
        answering.cancel()
        raise
    left = service_of(request).metrics.cancelled.inc
    return EventStream(_events(first, passed, answering, started_s, left))


class EventStream(Response):
    """Sends events as they come. The task that answers notices itself when the client leaves."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        """Send ``events``, each encoded as a whole."""
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head, events and end."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _next(passed: Passed, answering: asyncio.Task[Answered]) -> tuple[LoadedModel, Prediction] | None:
    """The next exit's prediction; ``None`` once the answer, or its failure, is there and none is left."""
    if passed.empty() and not answering.done():
        getting = asyncio.ensure_future(passed.get())
        await asyncio.wait((getting, answering), return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        getting.cancel()
    return None if passed.empty() else passed.get_nowait()


async def _events(
    following: tuple[LoadedModel, Prediction] | None,
    passed: Passed,
    answering: asyncio.Task[Answered],
    started_s: float,
    left: Callable[[], None],
) -> AsyncIterator[bytes]:
    """Every prediction, then the end; calls ``left`` if the client does not wait for it."""
    said = 0
    try:
        while following is not None:
            model, prediction = following
            said = prediction.exit
            yield _event("prediction", {**entry(card_of(model), prediction), "elapsed_ms": _ms(started_s)})
            following = await _next(passed, answering)
        answered = answering.result()
        if answered.only.exit > said:  # at a deadline it may be what has been said already
            last = entry(answered.card, answered.only)
            yield _event("prediction", {**last, "elapsed_ms": _ms(started_s)})
        yield _event("done", answered.summary())
    except ClientLeft:
        left()
    except Exception as error:
        shown = error if isinstance(error, ServiceError) else InternalError()
        if shown.status >= 500:  # the status that was sent says otherwise
            logger.exception("stream_failed")
        yield _event("error", problem_members(shown))
    finally:
        answering.cancel()


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _ms(started_s: float) -> float:
    return round((time.monotonic() - started_s) * 1000, 3)
