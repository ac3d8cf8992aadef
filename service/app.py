"""The application: settings in, ASGI out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Lifespan

from service import VERSION
from service.direct import Direct, Failed
from service.documents.complete import DESCRIPTION, TAGS, openapi_of
from service.errors import (
    Draining,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
)
from service.failures import answer_error, expected_failures
from service.hosts import EVERY, TrustedHosts
from service.limits import BodyLimit
from service.metrics import Metrics
from service.metrics_port import MetricsApart
from service.observe import Observed
from service.routes import admin, classify, explain, health, models, stream, v2
from service.routes.documentation import document
from service.routes.playground import playground
from service.schemas import Problem, ProtocolError
from service.settings import Settings
from service.state import Service

logger = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""That routes may have."""

PAGES = ("/openapi.json",)
"""Routes that are FastAPI's own and leave no name behind to be counted by."""


def create_app(
    settings: Settings,
    on_failure: Callable[[Exception], None] = lambda _: None,
    on_ready: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Make the application; models are loaded in the background once it starts.

    Args:
        settings: All settings.
        on_failure: Called on the event loop if the models cannot be loaded; the server should then end.
        on_ready: Called on the event loop once they are.

    Raises:
        KeysFileError: The keys file cannot be used.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = app.state.loading = asyncio.create_task(_load(service, on_failure, on_ready))
        yield
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await service.close()
        logger.info("stopped")

    app = _application(settings, lifespan)
    app.state.service = service
    for module in (classify, stream, explain, models, admin, health, v2):
        app.include_router(module.router)
    if settings.docs:
        document(app)
        app.include_router(playground(settings))
    app.openapi = openapi_of(app, [Problem, ProtocolError, *v2.BODIES])  # type: ignore[method-assign]
    failures = _handle_errors(app, service.metrics)
    endpoints = {
        "/classify": classify.classify,
        "/classify/stream": stream.stream,
        "/explain": explain.explain,
    }
    # What is added last comes first.
    app.add_middleware(Direct, endpoints=endpoints, failures=failures)
    if EVERY not in settings.trusted_hosts:
        app.add_middleware(TrustedHosts, hosts=settings.trusted_hosts)
    if settings.metrics_port is not None:
        app.add_middleware(MetricsApart, port=settings.metrics_port)
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes)
    classifying = [*endpoints, *v2.INFER_PATHS]
    app.add_middleware(
        Observed, metrics=service.metrics, paths=classifying, pages=PAGES, tracing=service.tracing
    )
    return app


def _application(settings: Settings, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """FastAPI without any route of ours yet."""
    return FastAPI(
        title="exitramp",
        description=DESCRIPTION,
        openapi_tags=list(TAGS),
        version=VERSION,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # to ask whether it is on costs 30 µs
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,  # see service.routes.documentation
        redoc_url=None,
    )


async def _load(
    service: Service, on_failure: Callable[[Exception], None], on_ready: Callable[[], None]
) -> None:
    try:
        await service.load()
        logger.info("ready", extra={"models": list(service.loaded()[0].models)})
        on_ready()
    except asyncio.CancelledError:
        raise
    except Draining:
        pass  # told to end before everything was loaded, which is no failure
    except Exception as error:
        on_failure(error)


def _handle_errors(app: FastAPI, metrics: Metrics) -> dict[type[Exception], Failed]:
    """Turn every failure into problem+json, below /v2 into the protocol's own errors.

    Returns:
        What routes raise on purpose, and what is made of it.
    """

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return answer_error(request, NotFound(f"nothing is at {request.url.path}"))
        if error.status_code == 405:
            refusal = MethodNotAllowed(f"{request.method} is not for this route", _allowed(request))
            return answer_error(request, refusal)
        return answer_error(request, InvalidRequest(str(error.detail)))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer_error(request, _told(error))

    failures: dict[type[Exception], Failed] = {
        **expected_failures(metrics),
        HTTPException: on_http_exception,
        RequestValidationError: on_invalid,
    }
    for kind, handler in failures.items():
        app.add_exception_handler(kind, handler)
    return failures


def _allowed(request: Request) -> list[str]:
    """The methods of the request's address, of all its routes: the one that refuses knows its own only."""
    routes, scope = request.app.routes, request.scope
    if any(isinstance(route, Mount) and route.matches(scope)[0] is Match.FULL for route in routes):
        return ["GET", "HEAD"]  # files, which do not look at the method before they are asked for
    return [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def _told(error: RequestValidationError) -> InvalidRequest:
    """The first mistake in a body and its place, and nothing of ours."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    if first["type"] in ("model_attributes_type", "missing"):
        place += " (is it JSON, sent with Content-Type: application/json?)"
    return InvalidRequest(f"{place}: {first['msg']}")
