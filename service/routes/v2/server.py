"""Health and metadata of the server."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service import VERSION
from service.documents.bodies import success
from service.documents.errors import UNTIL_LOADED, failures
from service.errors import NotReady
from service.routes.v2.schemas import Live, Ready, ServerMetadata
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


def _metadata(version: str) -> ServerMetadata:
    return {"name": "exitramp", "version": version, "extensions": list(EXTENSIONS)}


@router.get(
    "",
    responses={
        200: success("Who this is.", _metadata(VERSION)),
        **failures(NotReady, protocol=True),
    },
)
@router.get("/", include_in_schema=False)
async def server_metadata(request: Request) -> ServerMetadata:
    """Tell name, version and extensions of this server."""
    return _metadata(request.app.version)


# Triton's clients look at the status alone, KServe's at these members.
@router.get(
    "/health/live",
    responses={200: success("It is up.", {"live": True}), **failures(NotReady, protocol=True)},
)
async def live() -> Live:
    """Tell whether the process is up."""
    return {"live": True}


@router.get(
    "/health/ready",
    responses={
        200: success("It is ready.", {"ready": True}),
        **failures(*UNTIL_LOADED, protocol=True),
    },
)
async def ready(request: Request) -> Ready:
    """Tell whether requests can be answered.

    Models are loaded and warmed up, and the server is not shutting down; else 503.
    """
    service_of(request).check_ready()
    return {"ready": True}
