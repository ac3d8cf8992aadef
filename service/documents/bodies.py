"""Bodies of requests and of successful answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from service.documents.headers import Described, told

BINARY: Final = {"type": "string", "format": "binary"}

FORMATS: Final = "image/png, image/jpeg, image/webp, image/gif, image/bmp"


def images(most: int) -> Described:
    """A body with images: one as it is, or up to ``most`` as parts of a form."""
    part: Described = BINARY
    if most > 1:
        part = {"type": "array", "minItems": 1, "maxItems": most, "items": BINARY}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": part},
        "additionalProperties": False,
    }
    raw = {"schema": BINARY}
    return {
        "required": True,
        "description": "The bytes decide what it is, not the content type, which may also be missing.",
        "content": {
            "multipart/form-data": {"schema": form, "encoding": {"image": {"contentType": FORMATS}}},
            "application/octet-stream": raw,
            **{media_type: raw for media_type in FORMATS.split(", ")},
        },
    }


def json_body(schema: str, example: Any, required: bool = True) -> Described:
    """A JSON body of the schema of this name."""
    reference = {"$ref": f"#/components/schemas/{schema}"}
    content = {"application/json": {"schema": reference, "example": example}}
    return {"required": required, "content": content}


def success(description: str, example: Any, *headers: str) -> Described:
    """A successful JSON answer; FastAPI knows its schema from the route's return type."""
    content = {"application/json": {"example": example}}
    return {"description": description, "content": content, "headers": told(*headers)}


def media(description: str, content: Mapping[str, str | None], *headers: str) -> Described:
    """A successful answer that is no JSON: an example by media type, ``None`` for bytes."""
    forms: Described = {
        media_type: {"schema": BINARY}
        if example is None
        else {"schema": {"type": "string"}, "example": example}
        for media_type, example in content.items()
    }
    return {"description": description, "content": forms, "headers": told(*headers)}


EVENT: Final = {
    "description": "Server-sent events. OpenAPI 3.1 has no word for one of them: it is the object.",
    "type": ["string", "object"],
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["prediction", "done", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""What ``/classify/stream`` answers."""

SPENT: Final = ("X-FLOPs", "X-Exit", "Server-Timing")
"""Headers of every answer that cost something."""
