"""Every error, once: an example of each, and which ones a route can answer.

The examples are occurrences of the errors themselves and are rendered as real ones are, so that status, code,
members and headers cannot differ from what goes over the wire.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from service.documents.headers import Described, told
from service.errors import (
    BudgetTooSmall,
    DeadlineExceeded,
    Draining,
    Forbidden,
    HeadersTooLarge,
    InternalError,
    InvalidHeader,
    InvalidRequest,
    MethodNotAllowed,
    NotExplainable,
    NotFound,
    NotReady,
    Overloaded,
    QuotaExhausted,
    RequestTimeout,
    ServiceError,
    TooLarge,
    Unauthorized,
    UndecodableImage,
    UnknownModel,
    UnsupportedMediaType,
)
from service.problems import MEDIA_TYPE, problem_members, protocol_members

OCCURRENCES: Final[tuple[ServiceError, ...]] = (
    InvalidRequest("65 parts named image; a request holds 1 to 64"),
    InvalidHeader("X-FLOP-Budget: '25 M' is not a positive number such as 25000000, 2.5e7 or 25M"),
    Unauthorized("this service needs an API key in the header X-API-Key"),
    Forbidden("administration is off; EXITRAMP_ADMIN_KEY_SHA256 turns it on"),
    NotFound("nothing is at /nowhere"),
    UnknownModel("no model or task 'cifar1000' is loaded; loaded: cifar10-fusion@3, cifar10-fusion, cifar10"),
    MethodNotAllowed("GET is not for this route", ["POST"]),
    RequestTimeout("request body did not arrive within 5 s or fell below 4096 bytes/s"),
    TooLarge("the body has 10485761 bytes, the limit is 10485760 bytes"),
    UnsupportedMediaType("image is not JPEG, PNG, WebP, GIF or BMP by its first bytes"),
    UndecodableImage("PNG of 312 bytes is broken or truncated"),
    BudgetTooSmall("the budget of 1000 FLOPs is below the cheapest exit, which costs 15258880 FLOPs"),
    NotExplainable("vggnet5: the head of exit 1 is not a linear layer behind global average pooling"),
    HeadersTooLarge("request header of more than 16384 bytes"),
    QuotaExhausted(
        "this request reserves 53810944 FLOPs; the key has 1000 of 1000000000 left and regains 1000000 "
        "per second",
        retry_after_s=54,
    ),
    Overloaded("all 512 permits are taken", retry_after_s=1),
    NotReady("the models are still being loaded", retry_after_s=2),
    Draining("the server is shutting down; ask another replica", retry_after_s=1),
    InternalError(),
    DeadlineExceeded("the deadline of 1 ms passed before the first exit answered"),
)
"""One occurrence of each error of the tree."""

Kind = type[ServiceError]

GUARD: Final[tuple[Kind, ...]] = (InvalidRequest, RequestTimeout, HeadersTooLarge)
"""What any request may be told before there is a route for it, by ``service.protocol``."""

EVERYWHERE: Final[tuple[Kind, ...]] = (*GUARD, TooLarge, InternalError)
"""What every route may answer."""

UNTIL_LOADED: Final[tuple[Kind, ...]] = (NotReady, Draining)

ADMINISTERING: Final[tuple[Kind, ...]] = (Unauthorized, Forbidden, *UNTIL_LOADED)

CLASSIFYING: Final[tuple[Kind, ...]] = (
    InvalidHeader,
    Unauthorized,
    UnknownModel,
    UnsupportedMediaType,
    UndecodableImage,
    BudgetTooSmall,
    QuotaExhausted,
    Overloaded,
    *UNTIL_LOADED,
    DeadlineExceeded,
)


def failures(*kinds: Kind, protocol: bool = False) -> dict[int | str, Described]:
    """The ``responses`` of a route for what it answers beside successes, by status.

    Args:
        kinds: Errors of its own; those of ``EVERYWHERE`` are added.
        protocol: Whether it is one of the Open Inference Protocol, whose errors look different.
    """
    by_status: defaultdict[int, list[Kind]] = defaultdict(list)
    for kind in dict.fromkeys((*kinds, *EVERYWHERE)):
        by_status[kind.status].append(kind)
    return {status: failure(by_status[status], protocol) for status in sorted(by_status)}


def failure(kinds: list[Kind], protocol: bool = False) -> Described:
    """The answer of one status, which any of ``kinds`` has."""
    forms: Described = {}
    if protocol:
        forms["application/json"] = _form(kinds, "ProtocolError", "protocol_")
    if early := [kind for kind in kinds if kind in GUARD or not protocol]:
        forms[MEDIA_TYPE] = _form(early, "Problem", "")
    headers = {name for kind in kinds for name in _occurrence(kind).headers}
    said = [f"`{kind.code}`: {(kind.__doc__ or '').splitlines()[0]}" for kind in kinds]
    described = "\n".join(f"* {line}" for line in said) if len(said) > 1 else said[0]
    return {"description": described, "content": forms, "headers": told(*sorted(headers))}


def _form(kinds: list[Kind], schema: str, prefix: str) -> Described:
    members: Described = {"code": {"enum": [kind.code for kind in kinds]}}
    return {
        "schema": {"allOf": [{"$ref": f"#/components/schemas/{schema}"}, {"properties": members}]},
        "examples": {kind.code: {"$ref": f"#/components/examples/{prefix}{kind.code}"} for kind in kinds},
    }


def _occurrence(kind: Kind) -> ServiceError:
    return next(error for error in OCCURRENCES if type(error) is kind)


def examples() -> dict[str, Any]:
    """An example of each error in both forms, OpenAPI's ``components.examples``."""
    found: dict[str, Any] = {}
    for error in OCCURRENCES:
        request_id = None if isinstance(error, GUARD) else "a1b2c3"
        found[error.code] = {"summary": error.title, "value": problem_members(error, request_id)}
        found[f"protocol_{error.code}"] = {"summary": error.title, "value": protocol_members(error)}
    return found
