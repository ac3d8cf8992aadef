"""Probes and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.schemas import Problem
from service.state import service_of

router = APIRouter(tags=["operation"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process is up."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Problem}})
async def readyz(request: Request) -> dict[str, str]:
    """Models are loaded and warmed up by a real inference, and the server is not shutting down."""
    service_of(request).check_ready()
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus text format, or OpenMetrics, with exemplars, for who accepts that."""
    page, media_type = await service_of(request).metrics_page(request.headers.get("Accept", ""))
    return Response(page, media_type=media_type)
