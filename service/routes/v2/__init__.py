"""The Open Inference Protocol, version 2, over REST, with the extensions that ``server.EXTENSIONS`` names.

KServe specifies it (https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol),
Triton its extensions (https://github.com/triton-inference-server/server/tree/main/docs/protocol).
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from service.routes.v2 import infer, models, repository, server, statistics, wire

INFER_PATHS = infer.PATHS
"""Where images are classified, as the metrics name it."""

BODIES: list[type[BaseModel]] = [wire.InferBody, repository.IndexBody, repository.ControlBody]
"""What routes read themselves, so that FastAPI does not see it."""

router = APIRouter()
# Statistics first: "/models/stats" would else be the model "stats".
for module in (server, statistics, models, infer, repository):
    router.include_router(module.router)
