"""The whole document: what FastAPI wrote of the routes, and what is true of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.documents.errors import GUARD, examples, failure
from service.documents.examples import NAMED
from service.documents.headers import ALWAYS, ANSWERED, NO_GUESSING, REQUEST_ID, SECURITY, Described, told
from service.errors import MethodNotAllowed, NotFound

DESCRIPTION: Final = """Image classification that spends only the compute it is allowed.

One **FLOP** is one multiply-add. **Exits** are numbered from 1 in depth order: an easy image leaves the
network early, and the answer says at which exit and what was spent.

Try it: open `POST /classify`, *Try it out*, choose an image, set `X-FLOP-Budget`, *Execute*. Or

```sh
curl --data-binary @image.png -H 'X-FLOP-Budget: 25M' http://127.0.0.1:8000/classify
```

Errors are RFC 9457 `application/problem+json` with a stable `code`, below `/v2` `{"error": …, "code": …}`.
An address that is not here is 404 `not_found`; another method is 405 `method_not_allowed` with `Allow`. A
header of ours that is repeated, empty or unusable is an error, never ignored."""

TAGS: Final = (
    {"name": "classification", "description": "Images in, classes out, under a FLOP budget."},
    {"name": "models", "description": "What is loaded, what its exits cost, how accurate they are."},
    {"name": "operation", "description": "For orchestrators and monitoring."},
    {
        "name": "open inference protocol",
        "description": "Version 2 as KServe's and Triton's clients speak it: tensors in JSON or behind it.",
    },
    {"name": "administration", "description": "Policies of loaded models. For holders of `X-Admin-Key`."},
    {"name": "playground", "description": "The page that shows in a browser what budgets do."},
)

PAGE: Final = {
    "defaultModelsExpandDepth": 0,  # the list of schemas is there, folded: it is longer than all routes
    "displayRequestDuration": True,
}
"""How /docs shows the document."""

UNSEEN: Final = {str(kind.status) for kind in GUARD}
"""Statuses that may have been sent before the request had an id."""


def openapi_of(app: FastAPI, models: list[type[BaseModel]]) -> Callable[[], Described]:
    """What makes the document of ``app``, once: for ``app.openapi``.

    Args:
        app: With all its routes.
        models: Schemas that no route's types name.
    """
    by_types = app.openapi

    def openapi() -> Described:
        if app.openapi_schema is None:
            complete(by_types(), models)
        assert app.openapi_schema is not None
        return app.openapi_schema

    return openapi


def complete(whole: Described, models: list[type[BaseModel]]) -> None:
    """Add to the document ``whole``, as FastAPI made it, what is true of all routes."""
    for methods in whole["paths"].values():
        for operation in methods.values():
            _complete_operation(operation)
    components = whole.setdefault("components", {})
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas = {**components.get("schemas", {}), **definitions["$defs"]}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = SECURITY
    components["headers"] = ANSWERED
    components["examples"] = {**NAMED, **examples()}
    components["responses"] = {
        kind.__name__: _identified(str(kind.status), failure([kind])) for kind in (NotFound, MethodNotAllowed)
    }


def _complete_operation(operation: Described) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):  # FastAPI's own; ours is 400 invalid_request
        del responses["422"]
    operation["responses"] = {status: _identified(status, responses[status]) for status in sorted(responses)}
    own = operation.get("parameters", [])
    known = {parameter["name"] for parameter in own}
    operation["parameters"] = [*own, *(parameter for parameter in ALWAYS if parameter["name"] not in known)]
    first, _, rest = operation["description"].partition("\n\n")
    operation["summary"] = " ".join(first.replace("``", "").split()).removesuffix(".")
    operation["description"] = rest


def _identified(status: str, response: Described) -> Described:
    """The answer with the headers that every answer has."""
    always: dict[str, Any] = told(REQUEST_ID, NO_GUESSING)
    if status in UNSEEN:
        always = {name: {**ANSWERED[name], "required": False} for name in always}
    return {**response, "headers": {**always, **response.get("headers", {})}}
