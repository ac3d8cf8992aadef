"""``POST /classify`` with one image, as a front answers it: decoded here, classified by the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.deadlines import in_time
from service.decoding import Decoder, refuse_compressed
from service.errors import Overloaded, ServiceError
from service.failures import ClientLeft
from service.front.link import Link, Reply, Told
from service.front.wire import Kind, Verdict, Wanted, pack_error
from service.headers import RequestHeaders, parse_headers
from service.observe import REQUEST_ID
from service.rendering import ModelCard, entry, spent_headers, summary

TRIES = 8
"""How often a request is decoded anew because meanwhile another model answers."""


class Classifying:
    """The endpoint."""

    def __init__(self, decoder: Decoder, link: Callable[[], Link]) -> None:
        """Decode with ``decoder``; ``link`` finds the engine or raises why there is none."""
        self._decoder, self._link = decoder, link

    async def __call__(self, request: Request) -> Response:
        """Have the image of ``request`` classified.

        Raises:
            ServiceError: It cannot be.
            ClientLeft: Nobody waits any more.
        """
        started_s = time.monotonic()
        headers, link = parse_headers(request.scope["headers"]), self._link()
        asking = _Asking(request, headers, self._decoder, link, started_s)
        for _ in range(TRIES):
            reply = await asking.reply()
            if isinstance(reply, ServiceError):
                raise reply
            if isinstance(reply, tuple):
                return _response(headers, *reply, asking.decode_s, started_s)
        raise Overloaded("models are changing; ask again", retry_after_s=1)


class _Asking:
    """One request on its way to an answer."""

    def __init__(
        self, request: Request, headers: RequestHeaders, decoder: Decoder, link: Link, started_s: float
    ) -> None:
        self._request, self._headers, self._decoder, self._link = request, headers, decoder, link
        self._model, self._key = headers.model or "", headers.api_key or ""
        self._wanted = Wanted(
            started_s,
            headers.budget,
            model=self._model,
            api_key=self._key,
            request_id=request.scope[REQUEST_ID],
        )
        self.decode_s = 0.0

    async def reply(self) -> Reply:
        """What the engine says to the image, or to the question whether to decode it."""
        told = self._link.specs.get(self._model) if self._key in self._link.welcome else None
        if told is None:
            _, future = self._link.send(Kind.ASK, self._wanted)
            reply = await future
        else:
            reply = await self._with_image(told)
        self._link.learn(self._model, self._key, reply)
        return reply

    async def _with_image(self, told: Told) -> Reply:
        slot = self._link.take_slot()
        sent = False
        wanted = self._wanted._replace(slot=slot, spec=told.text)
        try:
            try:
                async with in_time(wanted.started_s, wanted.budget.deadline_ms):
                    await self._decode(told, slot)
                kind = Kind.IMAGE
            except ServiceError as error:  # the engine may have a better reason to refuse
                kind, wanted = Kind.FAILED, wanted._replace(failure=pack_error(error))
            self.decode_s = time.monotonic() - wanted.started_s
            number, future = self._link.send(kind, wanted, slot)
            sent = True
        finally:
            if not sent:
                self._link.give_up_slot(slot)
        # What is left of a body that was refused would look like the client's leaving.
        return await (self._unless_left(number, future) if kind is Kind.IMAGE else future)

    async def _decode(self, told: Told, slot: int) -> None:
        refuse_compressed(self._headers)
        image = await self._decoder.decoded(await self._request.body(), told.spec)
        if isinstance(image, ServiceError):
            raise image
        self._link.images.pixels(slot, told.spec.height, told.spec.width)[...] = image

    async def _unless_left(self, number: int, future: asyncio.Future[Reply]) -> Reply:
        # The body has been read, so the next message is the client's leaving.
        watch = asyncio.ensure_future(self._request.receive())
        watch.add_done_callback(lambda _: future.cancel())
        try:
            return await future
        except asyncio.CancelledError:
            self._link.cancel(number)
            if watch.done() and not watch.cancelled():
                raise ClientLeft from None
            raise
        finally:
            watch.cancel()


def _response(
    headers: RequestHeaders, card: ModelCard, verdict: Verdict, decode_s: float, started_s: float
) -> Response:
    seconds = {
        "decode": decode_s,
        "queue": verdict.queue_s,
        "compute": verdict.compute_s,
        "total": time.monotonic() - started_s,
    }
    body = {
        **summary(card, headers.budget, verdict.flops, seconds),
        "predictions": [entry(card, verdict)],
    }
    spent = spent_headers(verdict.flops, seconds, [verdict.exit])
    return Response(orjson.dumps(body), media_type="application/json", headers=spent)
