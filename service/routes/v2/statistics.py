"""Statistics of each loaded version of each model, as Triton's clients read them.

Counted where the engine launches and where it hands answers to the routes, so over all routes together. Two
things differ from a network that runs in one piece. An image counts, not a request. And an image leaves by an
exit: it is in one launch for each span of its way, so that launches times their sizes are more than images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request

from service.documents import examples
from service.documents.bodies import success
from service.documents.errors import UNTIL_LOADED, failures
from service.documents.headers import ModelName, Version
from service.engine.loaded import LoadedModel
from service.engine.statistics import Computed
from service.errors import UnknownModel
from service.routes.v2.models import pinned
from service.routes.v2.schemas import ComputedParts, Duration, ModelStatistics, Statistics
from service.state import service_of

_COUNTS: dict[int | str, dict[str, Any]] = {200: success("Counts and times.", examples.STATISTICS)}

_OF_A_MODEL: dict[str, Any] = {"responses": _COUNTS | failures(UnknownModel, *UNTIL_LOADED, protocol=True)}

router = APIRouter(prefix="/v2", tags=["open inference protocol"])


@router.get("/models/stats", responses=_COUNTS | failures(*UNTIL_LOADED, protocol=True))
async def all_statistics(request: Request) -> Statistics:
    """Count inferences and time their parts, of all loaded models."""
    registry, _ = service_of(request).loaded()
    return _statistics(registry.models.values())


@router.get("/models/{name}/stats", **_OF_A_MODEL)
async def statistics(request: Request, name: ModelName) -> Statistics:
    """Count inferences and time their parts, of a model or of the models of a task."""
    registry, _ = service_of(request).loaded()
    versions = [model for model in registry.models.values() if model.name == name]
    return _statistics(versions or registry.find(name))


@router.get("/models/{name}/versions/{version}/stats", **_OF_A_MODEL)
async def version_statistics(request: Request, name: ModelName, version: Version) -> Statistics:
    """Count inferences and time their parts, of one version of a model."""
    return await statistics(request, pinned(name, version))


def _statistics(models: Iterable[LoadedModel]) -> Statistics:
    return {"model_stats": [_of_model(model) for model in models]}


def _of_model(model: LoadedModel) -> ModelStatistics:
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


def _computed(computed: Computed) -> ComputedParts:
    return {
        "compute_input": _duration(computed.number, computed.input_ns),
        "compute_infer": _duration(computed.number, computed.infer_ns),
        "compute_output": _duration(computed.number, computed.output_ns),
    }


def _duration(count: int, ns: int) -> Duration:
    return {"count": count, "ns": ns}
