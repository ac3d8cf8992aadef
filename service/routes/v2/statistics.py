"""Statistics of each loaded version of each model, as Triton's clients read them.

Counted where the engine launches and where it hands answers to the routes, so over all routes together. Two
things differ from a network that runs in one piece. An image counts, not a request. And an image leaves by an
exit: it is in one launch for each span of its way, so that launches times their sizes are more than images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request

from service.engine.loaded import LoadedModel
from service.engine.statistics import Computed
from service.routes.v2.errors import answers
from service.routes.v2.models import pinned
from service.state import service_of

router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=answers(404, 503))


@router.get("/models/stats")
async def all_statistics(request: Request) -> dict[str, Any]:
    """All loaded models."""
    registry, _ = service_of(request).loaded()
    return _statistics(registry.models.values())


@router.get("/models/{name}/stats")
async def statistics(request: Request, name: str) -> dict[str, Any]:
    """All loaded versions of a model, or all models of a task."""
    registry, _ = service_of(request).loaded()
    versions = [model for model in registry.models.values() if model.name == name]
    return _statistics(versions or registry.find(name))


@router.get("/models/{name}/versions/{version}/stats")
async def version_statistics(request: Request, name: str, version: str) -> dict[str, Any]:
    """One version."""
    return await statistics(request, pinned(name, version))


def _statistics(models: Iterable[LoadedModel]) -> dict[str, Any]:
    return {"model_stats": [_of_model(model) for model in models]}


def _of_model(model: LoadedModel) -> dict[str, Any]:
    statistics, launches = model.statistics, model.statistics.launches()
    answered = statistics.answered
    return {
        "name": model.name,
        "version": str(model.manifest.version),
        "last_inference": statistics.last_ms,
        "inference_count": answered.number,
        "execution_count": sum(computed.number for _, computed in launches),
        "inference_stats": {
            "success": _duration(answered.number, statistics.waited_ns + answered.total_ns),
            "fail": _duration(statistics.failed, statistics.failed_ns),
            "queue": _duration(answered.number, statistics.waited_ns),
            **_computed(answered),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": [{"batch_size": size, **_computed(computed)} for size, computed in launches],
    }


def _computed(computed: Computed) -> dict[str, Any]:
    return {
        "compute_input": _duration(computed.number, computed.input_ns),
        "compute_infer": _duration(computed.number, computed.infer_ns),
        "compute_output": _duration(computed.number, computed.output_ns),
    }


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
