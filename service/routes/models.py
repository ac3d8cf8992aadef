"""What is loaded."""

from __future__ import annotations

from fastapi import APIRouter, Request

from model_store.flops import dense_flops, direct_flops
from service.documents import examples
from service.documents.bodies import success
from service.documents.errors import UNTIL_LOADED, failures
from service.documents.headers import ModelName
from service.engine.loaded import LoadedModel
from service.errors import UnknownModel
from service.schemas import CurvePoint, ExitBody, ModelBody, ModelsBody
from service.state import service_of

router = APIRouter(prefix="/models", tags=["models"])


@router.get(
    "",
    responses={
        200: success("All models, the default first.", {"models": [examples.MODEL]}),
        **failures(*UNTIL_LOADED),
    },
)
async def list_models(request: Request) -> ModelsBody:
    """List the loaded models, with what each exit costs and how accurate it is."""
    registry, _ = service_of(request).loaded()
    return ModelsBody(models=[describe(model) for model in registry.models.values()])


@router.get(
    "/{name}",
    responses={200: success("The model.", examples.MODEL), **failures(UnknownModel, *UNTIL_LOADED)},
)
async def show_model(request: Request, name: ModelName) -> ModelBody:
    """Describe a loaded model.

    By ``name``, ``name@version``, or a task, whose first model it is then.
    """
    registry, _ = service_of(request).loaded()
    return describe(registry.find(name)[0])


def describe(model: LoadedModel) -> ModelBody:
    """What a client may know of ``model``."""
    manifest = model.manifest
    costs = zip(manifest.exits, direct_flops(model.stages), dense_flops(model.stages), strict=True)
    return ModelBody(
        name=manifest.name,
        version=manifest.version,
        task=manifest.task,
        classes=list(manifest.classes),
        input=manifest.input.model_dump(),
        device=model.executor.device,
        policy=model.policy.id,
        default_budget=model.policy.default_flops,
        exits=[
            ExitBody(
                exit=k,
                flops=direct,
                dense_flops=dense,
                accuracy=spec.accuracy,
                test_accuracy=spec.test_accuracy,
            )
            for k, (spec, direct, dense) in enumerate(costs, start=1)
        ],
        curve=[CurvePoint(mean_flops=mean, accuracy=accuracy) for mean, accuracy in model.policy.curve()],
        provenance=manifest.provenance.model_dump(),
    )
