"""Policies of loaded models: what is in force, another one, back again, one on trial. For administrators."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from model_store.policy import Policy
from service.documents import examples
from service.documents.bodies import success
from service.documents.errors import ADMINISTERING, failures
from service.documents.headers import ADMINISTRATOR, PolicyName
from service.engine.shadow import Shadow
from service.errors import UnknownModel
from service.slots import Slot
from service.state import require_admin, service_of


class ForAdministrators(APIRoute):
    """Looks at the key before anything of the body is read: dependencies come only after that."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See ``APIRoute``."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await require_admin(request)
            service_of(request).loaded()
            return await handle(request)

        return guarded


router = APIRouter(
    prefix="/admin/models",
    tags=["administration"],
    route_class=ForAdministrators,
    responses={
        200: success("The policies afterwards.", examples.POLICIES),
        **failures(*ADMINISTERING, UnknownModel),
    },
)


class Revision(BaseModel):
    """A policy that a model has had."""

    revision: int = Field(description="1-based; 1 is the artifact's own.")
    policy: str = Field(description="Its id.")
    default_budget: float
    in_force: bool


class Trial(BaseModel):
    """A policy that runs in the background, and how it compares on the same images."""

    policy: str
    images: int
    agreement: float | None = Field(description="Share of images with the same class from both.")
    mean_flops: float | None = Field(description="Per image, under the policy on trial.")
    live_mean_flops: float | None = Field(description="Per image, under the policy in force.")


class Policies(BaseModel):
    """All policies of a model since it was loaded."""

    model: str
    version: int
    revisions: list[Revision]
    shadow: Trial | None


class ShadowBody(BaseModel, extra="forbid"):
    """A policy to be tried."""

    policy: Policy
    share: float = Field(1.0, gt=0, le=1, description="Of the images; single ones without deadline.")


class RollbackBody(BaseModel, extra="forbid"):
    """Where to go back to."""

    revision: int | None = Field(None, description="Default: the one before the one in force.")


def _documents(body: Any = None) -> dict[str, Any]:
    """That a key is needed, and an example of the body."""
    content = {} if body is None else {"requestBody": {"content": {"application/json": {"example": body}}}}
    return {"security": ADMINISTRATOR, **content}


@router.get("/{name}/policies", openapi_extra=_documents())
async def show_policies(request: Request, name: PolicyName) -> Policies:
    """Show the policies that a model has had since it was loaded, and the one on trial."""
    return _describe(service_of(request).lifecycle.slot(name))


@router.post("/{name}/policies", openapi_extra=_documents(examples.POLICY))
async def set_policy(request: Request, name: PolicyName, policy: Policy) -> Policies:
    """Put another policy in force.

    The weights stay; requests under way end with the old one.
    """
    return _describe(await service_of(request).lifecycle.set_policy(name, policy))


@router.post("/{name}/policies/rollback", openapi_extra=_documents({"revision": 1}))
async def roll_back(request: Request, name: PolicyName, body: RollbackBody | None = None) -> Policies:
    """Put an earlier policy in force again."""
    revision = None if body is None else body.revision
    return _describe(await service_of(request).lifecycle.roll_back(name, revision))


@router.put("/{name}/shadow", openapi_extra=_documents({"policy": examples.POLICY, "share": 0.5}))
async def set_shadow(request: Request, name: PolicyName, body: ShadowBody) -> Policies:
    """Try a policy in the background.

    On images that are answered under the one in force.
    """
    return _describe(await service_of(request).lifecycle.set_shadow(name, body.policy, body.share))


@router.delete("/{name}/shadow", openapi_extra=_documents())
async def end_shadow(request: Request, name: PolicyName) -> Policies:
    """End the trial of a policy."""
    return _describe(await service_of(request).lifecycle.set_shadow(name, None))


def _describe(slot: Slot) -> Policies:
    revisions = [
        Revision(
            revision=number,
            policy=policy.id,
            default_budget=policy.default_flops,
            in_force=number == slot.revision,
        )
        for number, policy in enumerate(slot.policies, start=1)
    ]
    manifest = slot.model.manifest
    return Policies(
        model=manifest.name, version=manifest.version, revisions=revisions, shadow=_trial(slot.model.shadow)
    )


def _trial(shadow: Shadow | None) -> Trial | None:
    if shadow is None:
        return None
    images = shadow.images
    live, tried = (flops / images if images else None for flops in shadow.flops)
    agreement = shadow.agreed / images if images else None
    return Trial(
        policy=shadow.policy.id,
        images=images,
        agreement=agreement,
        mean_flops=tried,
        live_mean_flops=live,
    )
