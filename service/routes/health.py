"""Probes and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.documents import examples
from service.documents.bodies import media, success
from service.documents.errors import UNTIL_LOADED, failures
from service.errors import NotFound, NotReady
from service.state import service_of

router = APIRouter(tags=["operation"])


@router.get("/livez", responses={200: success("It is up.", {"status": "alive"}), **failures()})
async def livez() -> dict[str, str]:
    """Tell whether the process is up."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    responses={200: success("It is ready.", {"status": "ready"}), **failures(*UNTIL_LOADED)},
)
async def readyz(request: Request) -> dict[str, str]:
    """Tell whether requests can be answered.

    Models are loaded and warmed up by a real inference, and the server is not shutting down.
    """
    service_of(request).check_ready()
    return {"status": "ready"}


_PAGE = {
    "text/plain": examples.METRICS,
    "application/openmetrics-text": f"{examples.METRICS}# EOF\n",
}


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: media("Every metric, as `Accept` asks.", _PAGE), **failures(NotReady, NotFound)},
)
async def metrics(request: Request) -> Response:
    """Give every metric to Prometheus.

    Its text format, or OpenMetrics, with exemplars, for who accepts that. Where `EXITRAMP_METRICS_PORT` is
    set it is on that port alone.
    """
    page, media_type = await service_of(request).metrics_page(request.headers.get("Accept", ""))
    return Response(page, media_type=media_type)
