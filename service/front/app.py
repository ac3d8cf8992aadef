"""The application of a front; plain ASGI: what it answers itself, and what it passes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.decoding import Decoder
from service.direct import Direct, Failed, Route
from service.errors import Draining, NotReady, ServiceError
from service.failures import expected_failures
from service.front.classify import Classifying
from service.front.link import RESTART_S, Link
from service.front.proxy import EngineGone, Proxy
from service.hosts import EVERY, TrustedHosts
from service.limits import BodyLimit
from service.metrics import RequestMetrics
from service.observe import Observed
from service.settings import Settings

MULTIPART: Final = b"multipart/form-data"
CLASSIFY, LIVE, METRICS = "/classify", "/livez", "/metrics"

CLASSIFYING = (CLASSIFY, "/classify/stream", "/explain")

ROUTES = frozenset({*CLASSIFYING, LIVE, "/readyz", METRICS, "/models", "/"})
"""What is counted by its name even if no engine has seen it."""


class Front:
    """Answers single images for ``/classify``, and refuses for an engine that is not there.

    Attributes:
        link: With the engine; ``None`` until there has been one.
    """

    def __init__(self, settings: Settings, folder: Path, metrics: RequestMetrics, decoder: Decoder) -> None:
        """Pass on to the engine whose socket is in ``folder``; count in ``metrics`` what is answered here."""
        self.link: Link | None = None
        self._draining = False
        self._proxy = Proxy(folder)
        # The engine takes part in traces: it makes those of requests that come to it whole.
        self._decodes = settings.otlp_endpoint is None
        self._settings = settings
        failures = expected_failures(metrics)
        absent = Absent(self._absence, failures[ServiceError])
        endpoints = {CLASSIFY: Classifying(decoder, self._engine)}
        self._here = self._observed(Direct(absent, endpoints, failures), metrics)
        self._absent = self._observed(absent, metrics)

    def drain(self) -> None:
        """Refuse new work from now on."""
        self._draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        path, get = scope["path"], scope["method"] == "GET"
        if (get and path == LIVE) or (self._draining and not (get and path == METRICS)):
            await self._absent(scope, receive, send)
        elif self._is_for_here(scope):
            await self._here(scope, receive, send)
        else:
            try:
                await self._proxy(scope, receive, send)
            except EngineGone:
                await self._absent(scope, receive, send)

    def _is_for_here(self, scope: Scope) -> bool:
        """Whether it is a single image, or a body that nobody takes."""
        single = self._decodes and scope["method"] == "POST" and scope["path"] == CLASSIFY
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._settings.max_body_bytes:
                return True
            if name == b"content-type" and value.partition(b";")[0].strip().lower() == MULTIPART:
                single = False
        return single

    def _observed(self, app: ASGIApp, metrics: RequestMetrics) -> ASGIApp:
        """``app`` within what surrounds the engine's application, too."""
        if EVERY not in self._settings.trusted_hosts:
            app = TrustedHosts(app, self._settings.trusted_hosts)
        return Observed(BodyLimit(app, self._settings.max_body_bytes), metrics, CLASSIFYING)

    def _engine(self) -> Link:
        if self._draining or self.link is None or not self.link.open:
            raise self._absence()
        return self.link

    def _absence(self) -> ServiceError:
        if self._draining:
            return Draining("the server is shutting down; ask another replica", retry_after_s=1)
        if self.link is None:
            return NotReady("the models are still being loaded", RESTART_S)
        return NotReady("the engine has ended; it is being restarted", RESTART_S)


class Absent:
    """Answers where no engine does."""

    def __init__(self, reason: Callable[[], ServiceError], failed: Failed) -> None:
        """Say the ``reason``, as an answer made and counted by ``failed``."""
        self._reason, self._failed = reason, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["path"] in ROUTES:
            scope["route"] = Route(scope["path"])
        request = Request(scope, receive)
        if scope["method"] == "GET" and scope["path"] == LIVE:
            response = Response(orjson.dumps({"status": "alive"}), media_type="application/json")
        else:
            response = await self._failed(request, self._reason())
        await response(scope, receive, send)
