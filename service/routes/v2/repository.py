"""The model repository: what is in the store, and, for administrators, loading and unloading."""

from __future__ import annotations

import os
import re
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ValidationError

from model_store.store import StoreError
from service.documents import examples
from service.documents.bodies import json_body, success
from service.documents.errors import ADMINISTERING, UNTIL_LOADED, Kind, failures
from service.documents.headers import ADMINISTRATOR, Described, StoredName
from service.errors import InvalidRequest, TooLarge, Unauthorized, UnknownModel
from service.headers import quoted
from service.routes.v2.models import pinned
from service.routes.v2.schemas import Listed, Loaded, Unloaded
from service.routes.v2.wire import invalid
from service.state import Service, require_admin, service_of

router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"])

Body = TypeVar("Body", bound=BaseModel)

MAX_BODY_BYTES = 4096
"""Of a request: nobody has more to say here, and ``/index`` asks for no key."""

_WANTED = re.compile("[a-z0-9][a-z0-9_.-]{0,63}(@[1-9][0-9]{0,8})?")


class IndexBody(BaseModel, strict=True):
    """What is to be listed."""

    ready: bool = False


class ControlBody(BaseModel, strict=True):
    """How to load or unload."""

    parameters: dict[str, Any] | None = None


def _documents(body: str, told: Described, *kinds: Kind) -> dict[str, Any]:
    """What a route takes and may answer; only ``/index`` is for everybody."""
    errors = failures(InvalidRequest, *UNTIL_LOADED, *kinds, protocol=True)
    asked: dict[str, Any] = {"requestBody": json_body(body, {}, required=False)}
    if Unauthorized in kinds:
        asked["security"] = ADMINISTRATOR
    return {"responses": {200: told, **errors}, "openapi_extra": asked}


_INDEX = _documents("IndexBody", success("All of them.", examples.INDEX))

_STORED = "cifar10-shufflenet"

_LOAD = _documents(
    "ControlBody",
    success("It serves.", {"name": _STORED, "version": "1", "load": True}),
    *ADMINISTERING,
)

_UNLOAD = _documents(
    "ControlBody",
    success("It is gone.", {"name": _STORED, "unload": True}),
    *ADMINISTERING,
    UnknownModel,
)


@router.post("/index", **_INDEX)
async def index(request: Request) -> list[Listed]:
    """List every version of every model in the store.

    With ``{"ready": true}`` what is loaded alone.
    """
    service = service_of(request)
    service.loaded()
    body = await _body(request, IndexBody)
    return [
        {
            "name": listed.name,
            "version": str(listed.version),
            "state": "READY" if listed.loaded else "UNAVAILABLE",
            "reason": _public(service, listed.reason),
        }
        for listed in service.lifecycle.index()
        if listed.loaded or not body.ready
    ]


@router.post("/models/{name}/load", dependencies=[Depends(require_admin)], **_LOAD)
async def load(request: Request, name: StoredName) -> Loaded:
    """Load a model, or load it anew.

    ``name`` or ``name@version``; what serves now serves until then.

    The parameter ``version`` is another way to give a version.
    """
    service, wanted = service_of(request), await _wanted(request, name)
    service.loaded()
    try:
        model = await service.lifecycle.load(wanted)
    except StoreError as error:
        raise InvalidRequest(f"{wanted} cannot be loaded: {_public(service, str(error))}") from error
    return {"name": model.name, "version": str(model.manifest.version), "load": True}


@router.post("/models/{name}/unload", dependencies=[Depends(require_admin)], **_UNLOAD)
async def unload(request: Request, name: StoredName) -> Unloaded:
    """Take a model away.

    All versions of ``name``, or ``name@version`` alone.
    """
    service, wanted = service_of(request), await _wanted(request, name)
    service.loaded()
    await service.lifecycle.unload(wanted)
    return {"name": wanted, "unload": True}


async def _wanted(request: Request, name: str) -> str:
    """``name`` or ``name@version``, from the address and the parameters."""
    parameters = (await _body(request, ControlBody)).parameters or {}
    overriding = [key for key in parameters if key == "config" or key.startswith("file:")]
    if overriding:
        raise InvalidRequest(f"{quoted(overriding[0])}: an artifact brings its own configuration and files")
    version = parameters.get("version")
    wanted = name if version is None else pinned(name, str(version))
    if not _WANTED.fullmatch(wanted):
        raise InvalidRequest(f"{quoted(wanted)} is not name or name@version")
    return wanted


async def _body(request: Request, kind: type[Body]) -> Body:
    """The JSON of a request; Triton's client sends none where it has nothing to say."""
    received = b""
    async for piece in request.stream():
        received += piece
        if len(received) > MAX_BODY_BYTES:
            raise TooLarge(f"a body of more than {MAX_BODY_BYTES} bytes; nothing here needs as many")
    try:
        return kind.model_validate_json(received or b"{}")
    except ValidationError as error:
        raise invalid(error) from error


def _public(service: Service, reason: str) -> str:
    """A reason without where on this machine the store is."""
    root = str(service.settings.model_store)
    return reason.replace(root + os.sep, "").replace(root, "the store")
