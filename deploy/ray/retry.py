"""Requests survive their replica: what Ray Serve's HTTP proxies do beyond passing them on.

Serve's router picks another replica if one refuses a request, but what a replica was working on when it died
ends as a bare 500. All that exitramp answers can be asked for twice, so the proxy keeps a request's body and
asks again. This runs inside the proxies, which load it through an environment variable of every node:

    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deploy.ray.retry.middlewares
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import NotReady
from service.problems import problem

logger = logging.getLogger("ray.serve")

ATTEMPTS = 3
"""How often a request is tried. Not more: one that kills its replica must not go through all of them."""

PAUSE_S = 0.05
"""Wait before the next attempt, seconds; the router has learnt of the death by then."""

KEPT_BYTES = 16 * 2**20
"""Longest body that is kept to be sent again; more than a replica accepts by default."""


def middlewares() -> list[Middleware]:
    """What Serve puts around its HTTP proxy."""
    return [Middleware(Retry)]


class Retry:
    """Middleware that asks again if the first answer never began; plain ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``, the proxy."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, answer = _Body(receive), _Answer(send)
        for attempt in range(1, ATTEMPTS + 1):
            await self._app(scope, body.again(), answer)
            if answer.begun or not body.complete:
                return
            logger.warning(f"{scope['path']}: no answer at attempt {attempt} of {ATTEMPTS}")
            await asyncio.sleep(PAUSE_S)
        failure = NotReady("no replica has answered this request", retry_after_s=1)
        await problem(failure, path=scope["path"])(scope, receive, send)


class _Body:
    """The messages of a request, as often as they are wanted."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[Message] = []
        self._bytes = 0
        self.complete = True  # whether everything that was received is kept, and the client is still there

    def again(self) -> Receive:
        """Receives from the beginning."""
        kept = iter(tuple(self._kept))

        async def receive() -> Message:
            for message in kept:
                return message
            return self._keep(await self._receive())

        return receive

    def _keep(self, message: Message) -> Message:
        self._bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or self._bytes > KEPT_BYTES:
            self._kept.clear()
            self.complete = False
        if self.complete:
            self._kept.append(message)
        return message


class _Answer:
    """Passes an answer on from its first body on; a head alone can still be taken back."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = {**message, "headers": _without_doubles(message["headers"])}
            return
        if self._head is not None:
            self.begun = True
            head, self._head = self._head, None
            await self._send(head)
        await self._send(message)


def _without_doubles(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without the date, which the proxy's server has too, and the id that Serve adds to the service's own."""
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        known = name == b"x-request-id" and any(name == other for other, _ in kept)
        if name != b"date" and not known:
            kept.append((name, value))
    return kept
