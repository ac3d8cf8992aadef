"""Counts, times and dates every request and gives it an id; plain ASGI: disconnects pass through."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InternalError
from service.headers import valid_request_id
from service.metrics import RequestMetrics
from service.problems import NO_GUESSING, problem

if TYPE_CHECKING:
    from service.tracing import Tracing

logger = logging.getLogger(__name__)

REQUEST_ID = "exitramp.request_id"
"""Key in the ASGI scope: the request's id, the client's own or a new one."""

TRACE = "exitramp.trace"
"""Key in the ASGI scope: the request's ``RequestTrace``, if it is traced."""

NO_ANSWER = "499"
"""Status of a request whose client left before its answer began."""

FAILURES = ("500", "503", "504")
"""Statuses of requests that the service has failed."""

SPREAD = 0x9E3779B97F4A7C15
"""An odd factor: numbers in a row have products that look like chance, and never twice the same."""


class Observed:
    """Middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: RequestMetrics,
        paths: Collection[str] = (),
        pages: Collection[str] = (),
        tracing: Tracing | None = None,
    ) -> None:
        """Wrap ``app``.

        Args:
            app: The application.
            metrics: Where requests are counted and timed.
            paths: Of the routes that classify. Requests to them are counted there even if no route has seen
                them, and their failures from zero on.
            pages: Paths that are counted by their name, too, though no route of ours answers there.
            tracing: Traces requests.
        """
        self._app, self._metrics, self._paths = app, metrics, frozenset((*paths, *pages))
        self._tracing = tracing
        for path in paths:  # from zero on: rates miss the increase that makes a series appear
            for code in FAILURES:
                metrics.requests.labels(path, code)
        self._second, self._text = 0, b""
        self._ids = count(secrets.randbits(63))  # a call of the system for each would yield the interpreter

    def _date(self) -> bytes:
        """The Date header, made at most once a second; uvicorn's needs a timer that never rests."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text

    def _next_id(self) -> bytes:
        return b"%016x" % (next(self._ids) * SPREAD % 2**64)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = sent if valid_request_id(sent) else self._next_id()
        scope[REQUEST_ID] = request_id.decode()
        code, failure = NO_ANSWER, None
        trace = None if self._tracing is None else self._tracing.begin(scope, scope[REQUEST_ID])
        if trace is not None:
            scope[TRACE] = trace

        async def send_observed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
                own = ((b"x-request-id", request_id), (b"date", self._date()), NO_GUESSING)
                message["headers"] = [*message["headers"], *own]
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except Exception as error:  # a bug of ours or the device's: logged here, and an answer like any other
            failure = error
            logger.exception("request_failed", extra={"request_id": scope[REQUEST_ID]})
            if code != NO_ANSWER:
                raise
            answer = problem(InternalError(), scope[REQUEST_ID], scope["path"])
            await answer(scope, receive, send_observed)
        finally:
            # Files below a mount are counted by where that is: they have no route.
            path = scope["path"] if scope["path"] in self._paths else scope.get("root_path") or "unmatched"
            route = str(getattr(scope.get("route"), "path", path))
            self._metrics.requests.labels(route, code).inc()
            seconds = time.perf_counter() - started_s
            exemplar = None if trace is None else trace.exemplar
            self._metrics.request_seconds.labels(route).observe(seconds, exemplar)
            if trace is not None:
                trace.end(scope["method"], route, code, failure)
            failure = None  # its traceback holds this frame, which would hold it for the collector
