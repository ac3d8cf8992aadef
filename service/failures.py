"""What becomes of errors that endpoints raise on purpose, in whichever process."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.direct import Failed
from service.errors import ServiceError
from service.metrics import RequestMetrics
from service.observe import REQUEST_ID
from service.problems import problem


class ClientLeft(Exception):
    """The client closed the connection before its answer was ready."""


def forget_frames(error: Exception) -> None:
    """Let go of what ``error`` came through: frames that hold it in turn, and so the request and its body.

    Only the garbage collector would find such a circle, and may not look for minutes.
    """
    error.__traceback__ = None


def answer_error(request: Request, error: ServiceError) -> Response:
    """``error`` as an answer to ``request``: problem+json, below /v2 the protocol's own errors."""
    return problem(error, request.scope.get(REQUEST_ID), request.scope["path"])


def expected_failures(metrics: RequestMetrics) -> dict[type[Exception], Failed]:
    """What is made of errors of the tree, and of clients that leave; both are counted in ``metrics``."""

    async def on_service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        probed = request.method == "GET" and error.status == 503  # probes are no rejected requests
        if error.status in (401, 429, 503) and not probed:
            metrics.rejected.labels(error.code).inc()
        forget_frames(error)
        return answer_error(request, error)

    async def on_client_left(request: Request, _: Exception) -> Response:
        metrics.cancelled.inc()
        return Response(status_code=499)  # nobody reads it; the metrics do

    return {
        ServiceError: on_service_error,
        ClientLeft: on_client_left,
        ClientDisconnect: on_client_left,  # while it was sending
    }
