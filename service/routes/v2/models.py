"""Models as the protocol describes them: readiness, metadata, configuration."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from fastapi import APIRouter, Request

from model_store.flops import direct_flops
from service.documents import examples
from service.documents.bodies import success
from service.documents.errors import UNTIL_LOADED, failures
from service.documents.headers import Described, ModelName, Version
from service.engine.loaded import LoadedModel
from service.errors import UnknownModel
from service.limits import MAX_IMAGES
from service.routes.v2.schemas import ModelConfig, ModelMetadata, ModelReady, TensorConfig, TensorMetadata
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

router = APIRouter(prefix="/v2", tags=["open inference protocol"])


def _answers(description: str, example: object) -> Described:
    """What routes about a model answer."""
    known = success(description, example)
    return {"responses": {200: known, **failures(UnknownModel, *UNTIL_LOADED, protocol=True)}}


_READY = _answers("It is loaded.", {"name": "cifar10-fusion", "ready": True})
_METADATA = _answers("Versions and tensors.", examples.METADATA)
_CONFIG = _answers("The configuration.", examples.CONFIG)


def pinned(name: str, version: str) -> str:
    """``name@version``; a name that brings a version along must bring that one."""
    return name if name.endswith(f"@{version}") else f"{name}@{version}"


@router.get("/models/{name}/ready", **_READY)
async def ready(request: Request, name: ModelName) -> ModelReady:
    """Tell whether a model, or one of a task, is loaded and works.

    Else 404, and 503 if it does not, or before anything is loaded.
    """
    service_of(request).check_well(_find(request, name))
    return {"name": name, "ready": True}


@router.get("/models/{name}/versions/{version}/ready", **_READY)
async def version_ready(request: Request, name: ModelName, version: Version) -> ModelReady:
    """Tell whether one version of a model is loaded."""
    return await ready(request, pinned(name, version))


@router.get("/models/{name}", **_METADATA)
async def metadata(request: Request, name: ModelName) -> ModelMetadata:
    """Describe versions and tensors of a model, or of the models of a task."""
    models, service = _find(request, name), service_of(request)
    shown, versions = _named(service, models, name)
    return {
        "name": shown,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [_described(input_of(models))],
        "outputs": [_described(spec) for spec in outputs_of(models)],
    }


@router.get("/models/{name}/versions/{version}", **_METADATA)
async def version_metadata(request: Request, name: ModelName, version: Version) -> ModelMetadata:
    """Describe the tensors of one version of a model."""
    return await metadata(request, pinned(name, version))


@router.get("/models/{name}/config", **_CONFIG)
async def config(request: Request, name: ModelName) -> ModelConfig:
    """Give a model's configuration as Triton does.

    What Triton has no word for is in the parameters.
    """
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


@router.get("/models/{name}/versions/{version}/config", **_CONFIG)
async def version_config(request: Request, name: ModelName, version: Version) -> ModelConfig:
    """Give the configuration of one version of a model as Triton does."""
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


def _described(spec: TensorSpec) -> TensorMetadata:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.dims]}


def _configured(spec: TensorSpec) -> TensorConfig:
    return {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": list(spec.dims)}


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
