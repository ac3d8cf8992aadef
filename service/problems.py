"""Errors as they go over the wire: problem documents, RFC 9457."""

from __future__ import annotations

from typing import Final

import orjson
from starlette.responses import Response

from service.errors import ServiceError

CODE_URN: Final = "urn:exitramp:error:"
"""Prefix of a problem's ``type``; the code follows."""

V2: Final = "/v2"
"""Where the Open Inference Protocol's routes are."""

MEDIA_TYPE: Final = "application/problem+json"
"""Content type of every error, RFC 9457 section 6.1."""

NO_GUESSING: Final = (b"x-content-type-options", b"nosniff")
"""Header of every answer: a browser is to take none for something else, as some repeat what was sent."""


def problem_members(error: ServiceError, request_id: str | None = None) -> dict[str, str | int]:
    """The members of a problem document, see ``problem``."""
    members: dict[str, str | int] = {
        "type": CODE_URN + error.code,
        "title": error.title,
        "status": error.status,
        "detail": _shown_detail(error),
        "code": error.code,
    }
    if request_id is not None:
        members["request_id"] = request_id
    return members


def protocol_members(error: ServiceError) -> dict[str, str]:
    """The members of an error of the Open Inference Protocol, and our code."""
    return {"error": _shown_detail(error), "code": error.code}


def _shown_detail(error: ServiceError) -> str:
    # orjson refuses lone surrogates, and reporting an error must not raise one.
    return error.detail.encode("utf-8", "replace").decode()


def problem(error: ServiceError, request_id: str | None = None, path: str = "") -> Response:
    """Render ``error`` as ``application/problem+json``, or as the protocol of ``path`` has errors.

    Args:
        error: A leaf of the tree.
        request_id: Repeated in the body, so that a user can quote it. The header is the middleware's.
        path: Of the request, as far as it is known. At and below ``/v2`` the Open Inference Protocol wants
            ``{"error": …}``; status, headers and code are the same.
    """
    if path == V2 or path.startswith(V2 + "/"):
        members = protocol_members(error)
        return Response(orjson.dumps(members), error.status, error.headers, "application/json")
    return Response(orjson.dumps(problem_members(error, request_id)), error.status, error.headers, MEDIA_TYPE)
