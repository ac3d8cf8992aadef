"""``/metrics`` on a port of its own; plain ASGI."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import NotFound
from service.observe import REQUEST_ID
from service.problems import problem

METRICS = "/metrics"


class MetricsApart:
    """Shows ``/metrics`` to who came by one port, and everything else to all others."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        """Wrap ``app``; ``port`` is the one for metrics."""
        self._app, self._port = app, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and (scope["path"] == METRICS) != self._came_for_metrics(scope):
            nothing = NotFound(f"nothing is at {scope['path']}")
            await problem(nothing, scope.get(REQUEST_ID), scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _came_for_metrics(self, scope: Scope) -> bool:
        _, port = scope.get("server") or (None, None)  # a Unix socket has no port
        return bool(port == self._port)
