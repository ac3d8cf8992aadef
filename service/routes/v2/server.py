"""Health and metadata of the server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service.routes.v2.errors import answers
from service.state import service_of

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
"""What of Triton's extensions there is. Not ``schedule_policy``: there are timeouts, but no priorities."""

router = APIRouter(prefix="/v2", tags=["open inference protocol"])


@router.get("")
@router.get("/", include_in_schema=False)
async def server_metadata(request: Request) -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "exitramp", "version": request.app.version, "extensions": EXTENSIONS}


# Triton's clients look at the status alone, KServe's at these members.
@router.get("/health/live")
async def live() -> dict[str, bool]:
    """The process is up."""
    return {"live": True}


@router.get("/health/ready", responses=answers(503))
async def ready(request: Request) -> dict[str, bool]:
    """Models are loaded and warmed up, and the server is not shutting down; else 503."""
    service_of(request).check_ready()
    return {"ready": True}
