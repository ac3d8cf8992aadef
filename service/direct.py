"""The short way to the routes that classify; plain ASGI.

FastAPI describes these routes, and finds and calls all others. Its way to an endpoint (routing, dependencies,
exit stacks) costs about as much time as such an endpoint itself, and more than a refusal: at overload the
event loop would be busy with refusals and answer nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import V2
from service.state import Service

Endpoint = Callable[[Request], Awaitable[Response]]

Failed = Callable[[Request, Exception], Awaitable[Response]]
"""Makes an answer of an error that an endpoint has raised."""


class Route(NamedTuple):
    """A route as the metrics name it."""

    path: str


INFER = Route(V2 + "/models/{name}/infer")
INFER_VERSION = Route(V2 + "/models/{name}/versions/{version}/infer")


class Direct:
    """Middleware before the router: asks for room, then calls the endpoint that it knows."""

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        endpoints: Mapping[str, Endpoint],
        failures: Mapping[type[Exception], Failed],
    ) -> None:
        """Call ``endpoints``, which are for POST, by their path.

        Args:
            app: For everything else.
            service: Knows whether there is room.
            endpoints: All of them classify.
            failures: What to do with errors, by class. Others are left to the server.
        """
        self._app, self._service = app, service
        self._endpoints = {path: (Route(path), endpoint) for path, endpoint in endpoints.items()}
        self._failures = dict(failures)
        self._expected = tuple(failures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        route, endpoint = self._endpoints.get(path) or (_infer_route(path), None)
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # as a router would
        request, refusal = Request(scope, receive), self._service.refusal()
        if refusal is not None:
            response = await self._failed(request, refusal)
        elif endpoint is None:
            await self._app(scope, receive, send)
            return
        else:
            try:
                response = await endpoint(request)
            except self._expected as error:
                response = await self._failed(request, error)
        await response(scope, receive, send)

    async def _failed(self, request: Request, error: Exception) -> Response:
        kind = next(kind for kind in type(error).__mro__ if kind in self._failures)
        return await self._failures[kind](request, error)


def _infer_route(path: str) -> Route | None:
    """The route of an inference request: FastAPI calls it, and it needs room too."""
    if not path.endswith("/infer") or not path.startswith(V2):
        return None
    return INFER_VERSION if "/versions/" in path else INFER
