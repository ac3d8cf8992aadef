"""OpenAPI texts of ``/classify`` and ``/explain``, apart so that the routes themselves stay readable."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from service.schemas import ClassifyBody, Problem

_IMAGE = {"schema": {"type": "string", "format": "binary"}}

_NUMBER = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[kMGT]?$"


def _header(name: str, description: str, example: str, pattern: str | None = None) -> dict[str, Any]:
    schema = {"type": "string"} | ({"pattern": pattern} if pattern else {})
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema,
        "example": example,
    }


def _body(part: dict[str, Any]) -> dict[str, Any]:
    """One raw image, or a multipart body whose part ``image`` has the schema ``part``."""
    form = {"type": "object", "required": ["image"], "properties": {"image": part}}
    return {
        "required": True,
        "content": {
            "application/octet-stream": _IMAGE,
            "image/*": _IMAGE,
            "multipart/form-data": {"schema": form},
        },
    }


CLASSIFY: dict[str, Any] = {
    "response_model": ClassifyBody,
    "responses": {
        status: {"model": Problem, "description": description}
        for status, description in {
            400: "A header is repeated, empty or unparsable; a malformed multipart body.",
            401: "Keys are configured; the key is missing or wrong.",
            404: "No such model or task.",
            413: "Bytes, pixels or aspect ratio over the limit.",
            415: "Not JPEG, PNG, WebP, GIF or BMP by its first bytes; a compressed body.",
            422: "Broken image, or a budget below the cheapest exit.",
            429: "The key's FLOP allowance is used up.",
            500: "The device failed.",
            503: "Overloaded, not ready or shutting down.",
            504: "Not even the first exit fitted the deadline.",
        }.items()
    },
    "openapi_extra": {
        "parameters": [
            _header("X-FLOP-Budget", "Mean FLOPs per image; k, M, G, T are powers of 1000.", "25M", _NUMBER),
            _header("X-FLOP-Limit", "FLOPs that no image exceeds.", "40M", _NUMBER),
            _header("X-Deadline-Ms", "Milliseconds from arrival to answer.", "50", _NUMBER),
            _header("X-Model", "Task, model name or name@version.", "cifar10"),
            _header("X-API-Key", "Where keys are configured.", "secret"),
            _header("X-Request-Id", "Echoed in the answer.", "a1b2c3"),
        ],
        "requestBody": _body({"type": "array", "minItems": 1, "maxItems": 64, "items": _IMAGE["schema"]}),
    },
}

STREAM: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        **CLASSIFY["responses"],
        200: {
            "description": "Server-sent events: prediction for each exit, then done; error if it fails.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
    "openapi_extra": CLASSIFY["openapi_extra"],
}

EXPLAIN: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        **CLASSIFY["responses"],
        200: {
            "description": "The image as the network saw it, enlarged, under the map of its class.",
            "content": {"image/png": _IMAGE},
        },
        422: {"model": Problem, "description": "As for /classify, or no map can be read from that exit."},
    },
    "openapi_extra": {
        "parameters": CLASSIFY["openapi_extra"]["parameters"],
        "requestBody": _body(_IMAGE["schema"]),
    },
}
