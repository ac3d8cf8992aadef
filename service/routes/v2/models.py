"""Models as the protocol describes them: readiness, metadata, configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request

from model_store.flops import direct_flops
from service.engine.loaded import LoadedModel
from service.routes.bodies import MAX_IMAGES
from service.routes.v2.errors import answers
from service.routes.v2.tensors import TensorSpec, input_of, outputs_of
from service.state import Service, service_of

PLATFORM = "exitramp_multiexit"
"""A platform is a project and a format, says the protocol."""

_TYPES = {
    "UINT8": "TYPE_UINT8",
    "FP32": "TYPE_FP32",
    "BYTES": "TYPE_STRING",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
}

router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=answers(404, 503))


def pinned(name: str, version: str) -> str:
    """``name@version``; a name that brings a version along must bring that one."""
    return name if name.endswith(f"@{version}") else f"{name}@{version}"


@router.get("/models/{name}/ready")
async def ready(request: Request, name: str) -> dict[str, Any]:
    """The model, or one of the task's, is loaded, else 404, and works; 503 if not, or before anything is."""
    service_of(request).check_well(_find(request, name))
    return {"name": name, "ready": True}


@router.get("/models/{name}/versions/{version}/ready")
async def version_ready(request: Request, name: str, version: str) -> dict[str, Any]:
    """The same for one version."""
    return await ready(request, pinned(name, version))


@router.get("/models/{name}")
async def metadata(request: Request, name: str) -> dict[str, Any]:
    """Versions and tensors of a model, or of the models of a task."""
    models, service = _find(request, name), service_of(request)
    shown, versions = _named(service, models, name)
    return {
        "name": shown,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [_described(input_of(models))],
        "outputs": [_described(spec) for spec in outputs_of(models)],
    }


@router.get("/models/{name}/versions/{version}")
async def version_metadata(request: Request, name: str, version: str) -> dict[str, Any]:
    """The same for one version."""
    return await metadata(request, pinned(name, version))


@router.get("/models/{name}/config")
async def config(request: Request, name: str) -> dict[str, Any]:
    """Triton's model configuration; what it has no word for is in its parameters."""
    models, service = _find(request, name), service_of(request)
    shown, versions = _named(service, models, name)
    settings = service.settings
    # Names and tasks follow latest versions, unless versions were asked for.
    latest = not versions or (shown in service.lifecycle.wanted and len(versions) == 1)
    these = {"specific": {"versions": [int(version) for version in versions]}}
    return {
        "name": shown,
        "platform": PLATFORM,
        "backend": "exitramp",
        "version_policy": {"latest": {"num_versions": 1}} if latest else these,
        "max_batch_size": MAX_IMAGES,
        "input": [{**_configured(input_of(models)), "format": "FORMAT_NHWC"}],
        "output": [_configured(spec) for spec in outputs_of(models)],
        "dynamic_batching": {
            "preferred_batch_size": [settings.max_batch],
            "max_queue_delay_microseconds": round(settings.max_wait_s * 1e6),
        },
        "parameters": {key: {"string_value": text} for key, text in _parameters(models).items()},
    }


@router.get("/models/{name}/versions/{version}/config")
async def version_config(request: Request, name: str, version: str) -> dict[str, Any]:
    """The same for one version."""
    return await config(request, pinned(name, version))


def _find(request: Request, name: str) -> list[LoadedModel]:
    registry, _ = service_of(request).loaded()
    return registry.find(name)


def _named(service: Service, models: Sequence[LoadedModel], name: str) -> tuple[str, list[str]]:
    """The name to show, without a version, and what versions of it are loaded; a task has none."""
    first = models[0]
    if name not in (first.name, first.key):
        return name, []
    loaded = service.lifecycle.registry.models.values()
    versions = sorted(model.manifest.version for model in loaded if model.name == first.name)
    return first.name, [str(version) for version in versions]


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.dims]}


def _configured(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": spec.dims}


def _parameters(models: Sequence[LoadedModel]) -> dict[str, str]:
    """Task and classes; of one model its policy and what its exits cost, of several who they are."""
    first = models[0]
    shared = {"task": first.manifest.task, "labels": orjson.dumps(first.manifest.classes).decode()}
    if len(models) > 1:
        return {**shared, "models": orjson.dumps([model.key for model in models]).decode()}
    exits = [
        {"exit": k, "flops": flops, "accuracy": spec.accuracy}
        for k, (flops, spec) in enumerate(
            zip(direct_flops(first.stages), first.manifest.exits, strict=True), start=1
        )
    ]
    return {
        **shared,
        "exits": orjson.dumps(exits).decode(),
        "policy": first.policy.id,
        "default_budget": f"{first.policy.default_flops:.0f}",
    }
