"""Counts, times and dates every request and gives it an id; plain ASGI: disconnects pass through."""

from __future__ import annotations

import secrets
import time
from email.utils import formatdate
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.headers import valid_request_id
from service.metrics import Metrics

REQUEST_ID = "exitramp.request_id"
"""Key in the ASGI scope: the request's id, the client's own or a new one."""


class Observed:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wrap ``app``."""
        self._app, self._metrics = app, metrics
        self._second, self._text = 0, b""
        self._ids = count(secrets.randbits(63))  # a call of the system for each would yield the interpreter

    def _date(self) -> bytes:
        """The Date header, made at most once a second; uvicorn's needs a timer that never rests."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = sent if valid_request_id(sent) else b"%016x" % next(self._ids)
        scope[REQUEST_ID] = request_id.decode()
        code = "499"  # the client left before an answer began

        async def send_observed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
                own = ((b"x-request-id", request_id), (b"date", self._date()))
                message["headers"] = [*message["headers"], *own]
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route, code).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started_s)
