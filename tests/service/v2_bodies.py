"""Bodies of inference requests of the Open Inference Protocol."""

from __future__ import annotations

import json
from typing import Any

from conftest import random_images

NATIVE = (32, 32, 3)
PIXELS = random_images(2).transpose(0, 2, 3, 1)  # (2, 32, 32, 3)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def body(**members: Any) -> bytes:
    return json.dumps(members).encode()


def tensor(**members: Any) -> dict[str, Any]:
    """An input of two native images, without data."""
    return {"name": "image", "datatype": "UINT8", "shape": [2, *NATIVE], **members}


def with_data(**members: Any) -> bytes:
    return body(inputs=[tensor(data=PIXELS.ravel().tolist())], **members)


def binary(content: bytes, size: Any = ..., **members: Any) -> tuple[bytes, int]:
    """Body with ``content`` behind its JSON, and the length of the JSON."""
    parameters = {"binary_data_size": len(content) if size is ... else size}
    head = body(inputs=[tensor(parameters=parameters, **members)])
    return head + content, len(head)
