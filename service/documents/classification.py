"""The routes that classify images."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response

from service.documents import examples
from service.documents.bodies import BINARY, EVENT, SPENT, images, json_body, media, success
from service.documents.errors import CLASSIFYING, failures
from service.documents.headers import BUDGETS, CLIENT, JSON_BYTES, MODEL, SAME_MODEL, STRICT_ID, told
from service.errors import NotExplainable
from service.limits import MAX_IMAGES
from service.schemas import ClassifyBody

CLASSIFY: Final[dict[str, Any]] = {
    "response_model": ClassifyBody,
    "responses": {
        200: {
            "description": "A prediction for each image, in the order sent; in place of one that cannot be "
            "used, why. A single image that cannot be used is an error of the request.",
            "content": {
                "application/json": {
                    "examples": {name: {"$ref": f"#/components/examples/{name}"} for name in examples.NAMED}
                }
            },
            "headers": told(*SPENT),
        },
        **failures(*CLASSIFYING),
    },
    "openapi_extra": {
        "parameters": [*BUDGETS, MODEL, STRICT_ID],
        "requestBody": images(MAX_IMAGES),
        "security": CLIENT,
    },
}

_ONE_IMAGE: Final = {**CLASSIFY["openapi_extra"], "requestBody": images(1)}

STREAM: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {
            "description": "Server-sent events: `prediction` for each exit, then `done`; `error` if it fails "
            "in between.",
            "content": {"text/event-stream": {"schema": EVENT, "example": examples.EVENTS}},
            "headers": told("Cache-Control"),
        },
        **failures(*CLASSIFYING),
    },
    "openapi_extra": _ONE_IMAGE,
}

EXPLAIN: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: media(
            "The image as the network saw it, enlarged, under the map of its class.",
            {"image/png": None},
            *SPENT,
            "X-Class-Index",
        ),
        **failures(*CLASSIFYING, NotExplainable),
    },
    "openapi_extra": _ONE_IMAGE,
}

_BINARY: Final = {"application/octet-stream": {"schema": BINARY}}

INFER: Final[dict[str, Any]] = {
    "responses": {
        200: success("The tensors asked for.", examples.INFERRED, *SPENT, JSON_BYTES["name"]),
        **failures(*CLASSIFYING, protocol=True),
    },
    "openapi_extra": {
        "parameters": [*BUDGETS, SAME_MODEL, JSON_BYTES, STRICT_ID],
        "requestBody": json_body("InferBody", examples.INFER),
        "security": CLIENT,
    },
}
for _body in (INFER["responses"][200], INFER["openapi_extra"]["requestBody"]):
    _body["content"] |= _BINARY
