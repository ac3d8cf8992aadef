"""Every header of requests and answers, as OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path

from service.headers import NUMBER_CHARACTERS

NUMBER: Final = r"^([0-9]*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.[0-9]*[1-9][0-9]*)([eE][+-]?[0-9]+)?[kMGT]?$"
"""A number as ``service.headers.parse_number`` reads it; that a double must hold it, no pattern can say."""

Described = dict[str, Any]
"""A piece of an OpenAPI document."""


def _asked(name: str, description: str, example: str, **schema: Any) -> Described:
    """An optional header. Its example is the schema's: of those of headers themselves /docs sends each."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema, "examples": [example]},
    }


def _number(name: str, description: str, example: str) -> Described:
    return _asked(name, description, example, pattern=NUMBER, maxLength=NUMBER_CHARACTERS)


BUDGETS: Final = (
    _number(
        "X-FLOP-Budget",
        "**Mean** FLOPs per image; a hard image may cost more, an easy one less. Plain, scientific, or with "
        "k, M, G or T (powers of 1000). Several images of one request never sum to more than n times this.",
        "25M",
    )
    | {"example": "25M"},
    _number("X-FLOP-Limit", "FLOPs that **no** image exceeds: the deepest exit that fits answers.", "40M"),
    _number(
        "X-Deadline-Ms", "Milliseconds from the request's arrival to its answer, written likewise.", "5000"
    ),
)
"""What a request may spend; all of it optional, and all that is given holds."""

MODEL: Final = _asked(
    "X-Model",
    "A task (its most accurate model under the budget answers), a model, or `name@version`; without it the "
    "first that is loaded. See `GET /models`.",
    "cifar10",
    pattern="^[!-~]+$",
)

SAME_MODEL: Final = _asked(
    "X-Model",
    "Not needed: the address names the model. With a version in the address `name@version`, else what stands "
    "there; anything else is an error.",
    "cifar10",
    pattern="^[!-~]+$",
)

JSON_BYTES: Final = _asked(
    "Inference-Header-Content-Length",
    "How many bytes of the body are JSON, where binary tensors follow it. With 0 the body is one image file.",
    "0",
    pattern="^[0-9]{1,15}$",
)

KNOWN_TAG: Final = _asked("If-None-Match", "The `ETag` of what is known already.", '"6199361fde26df17"')

REQUEST_ID: Final = "X-Request-Id"

NO_GUESSING: Final = "X-Content-Type-Options"

_OWN_ID: Final = "a1b2c3"

STRICT_ID: Final = _asked(
    REQUEST_ID,
    "Comes back in the answer and in errors; without it the server makes one.",
    _OWN_ID,
    pattern="^[!-~]{1,128}$",
)
"""Where headers are parsed strictly: on the routes that classify."""

ALWAYS: Final = (
    _asked(
        REQUEST_ID,
        "Comes back in the answer and in errors, if it is 1 to 128 printable ASCII characters, none a space; "
        "otherwise the server makes one.",
        _OWN_ID,
    ),
    _asked(
        "traceparent",
        "W3C trace context that the request's spans join, where traces are on; anything else is ignored.",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    _asked("tracestate", "Goes with `traceparent`.", "vendor=value"),
)
"""Headers of every request that does not say more of one of them."""

SECURITY: Final = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "Your key, where keys are configured (`EXITRAMP_KEYS_FILE`); otherwise not needed.",
    },
    "AdminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Admin-Key",
        "description": "The administrator's key. Nobody has it unless `EXITRAMP_ADMIN_KEY_SHA256` is set.",
    },
}
"""The two keys, OpenAPI's ``securitySchemes``."""

CLIENT: Final[list[dict[str, list[str]]]] = [{"ApiKey": []}, {}]
"""``security`` of routes that ask for a key where keys are configured."""

ADMINISTRATOR: Final[list[dict[str, list[str]]]] = [{"AdminKey": []}]
"""``security`` of routes for administrators."""


def _told(description: str, example: Any, required: bool = True, **schema: Any) -> Described:
    """A header of answers."""
    kind = "integer" if isinstance(example, int) else "string"
    return {
        "description": description,
        "required": required,
        "schema": {"type": kind, **schema},
        "example": example,
    }


ANSWERED: Final = {
    REQUEST_ID: _told("The request's id: its own, or one that the server made.", _OWN_ID, minLength=1),
    NO_GUESSING: _told("Of every answer: its type is what it says.", "nosniff"),
    "X-FLOPs": _told("FLOPs charged, summed over the images.", 15258880, minimum=0),
    "X-Exit": _told(
        "The exit that answered, from 1; only where there is one image.", 1, required=False, minimum=1
    ),
    "X-Class-Index": _told("Index of the class whose evidence the picture shows.", 8, minimum=0),
    "Server-Timing": _told(
        "Milliseconds for decoding, the longest waiting and computing of an image, and all together.",
        "decode;dur=0.812, queue;dur=0.166, compute;dur=2.319, total;dur=4.193",
        pattern="^[a-z]+;dur=[0-9.]+(, [a-z]+;dur=[0-9.]+)*$",
    ),
    "Inference-Header-Content-Length": _told(
        "How many bytes of the answer are JSON, where binary tensors follow it.",
        350,
        required=False,
        minimum=0,
    ),
    "Retry-After": _told("Seconds after which the same request can succeed.", 1, minimum=1),
    "WWW-Authenticate": _told(
        "Names the header that must hold a key.", 'ApiKey realm="exitramp", header="X-API-Key"'
    ),
    "Allow": _told("The methods that this address has.", "GET, HEAD"),
    "Cache-Control": _told("How long the answer may be kept.", "no-cache"),
    "ETag": _told("Changes when the file does.", '"6199361fde26df17"'),
}
"""Headers of answers, OpenAPI's ``components.headers``."""


def told(*names: str) -> Described:
    """The ``headers`` of an answer that has these."""
    assert not set(names) - set(ANSWERED), names
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _example(value: str, summary: str) -> Any:
    return {"summary": summary, "value": value}


ModelName = Annotated[
    str,
    Path(
        description="A model, `name@version`, or a task.",
        openapi_examples={
            "model": _example("cifar10-fusion", "a model"),
            "version": _example("cifar10-fusion@3", "one version of it"),
            "task": _example("cifar10", "a task"),
        },
    ),
]
"""``name`` in the address of what is loaded."""

StoredName = Annotated[
    str,
    Path(
        description="A model in the store, or `name@version`.",
        openapi_examples={"model": _example("cifar10-shufflenet", "a model in the store")},
    ),
]
"""``name`` in the address of what may be loaded."""

PolicyName = Annotated[
    str,
    Path(
        description="A loaded model, or `name@version`; a task has no policy.",
        openapi_examples={"model": _example("cifar10-fusion", "a model")},
    ),
]
"""``name`` in the address of policies."""

Version = Annotated[
    str,
    Path(
        description="Version of the model.",
        openapi_examples={"version": _example("3", "a version of cifar10-fusion")},
    ),
]
"""``version`` in an address."""
