"""Errors as they go over the wire: problem documents, RFC 9457."""

from __future__ import annotations

from typing import Final

import orjson
from starlette.responses import Response

from service.errors import ServiceError

CODE_URN: Final = "urn:exitramp:error:"
"""Prefix of a problem's ``type``; the code follows."""

MEDIA_TYPE: Final = "application/problem+json"
"""Content type of every error, RFC 9457 section 6.1."""


def problem_members(error: ServiceError, request_id: str | None = None) -> dict[str, str | int]:
    """The members of a problem document, see ``problem``."""
    members: dict[str, str | int] = {
        "type": CODE_URN + error.code,
        "title": error.title,
        "status": error.status,
        # orjson refuses lone surrogates, and reporting an error must not raise one.
        "detail": error.detail.encode("utf-8", "replace").decode(),
        "code": error.code,
    }
    if request_id is not None:
        members["request_id"] = request_id
    return members


def problem(error: ServiceError, request_id: str | None = None) -> Response:
    """Render ``error`` as ``application/problem+json``.

    Args:
        error: A leaf of the tree.
        request_id: Repeated in the body, so that a user can quote it. The header is the middleware's.
    """
    return Response(orjson.dumps(problem_members(error, request_id)), error.status, error.headers, MEDIA_TYPE)
