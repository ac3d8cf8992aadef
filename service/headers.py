"""Request headers: one strict pass over what the HTTP server parsed.

Nothing here is lenient. A budget that was meant and not understood would be answered at another price, so a
header of ours that is repeated, empty or unparsable is an error, never ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Final

from service.errors import InvalidHeader

NUMBER_CHARACTERS: Final = 64
"""Longest number that is parsed; nobody means a longer one, and the cache holds whole texts."""

SHOWN_CHARACTERS: Final = 64
"""Longest part of a client's value that a detail repeats."""

FLOPS: Final = "25000000, 2.5e7 or 25M"
"""Numbers of FLOPs, as the detail of an error shows them."""

MILLISECONDS: Final = "50 or 2.5, in milliseconds"
"""Times, likewise."""

_NUMBER: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?([kMGT]?)")
_EXPONENT: Final = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")

_OURS: Final = {
    b"x-flop-budget": "X-FLOP-Budget",
    b"x-flop-limit": "X-FLOP-Limit",
    b"x-deadline-ms": "X-Deadline-Ms",
    b"x-model": "X-Model",
    b"x-api-key": "X-API-Key",
    b"x-request-id": "X-Request-Id",
    b"content-type": "Content-Type",
    b"content-encoding": "Content-Encoding",
}
"""The headers that are read, as ASGI and as people spell them."""

_MAY_BE_EMPTY: Final = frozenset({b"content-type", b"content-encoding"})


@dataclass(frozen=True, slots=True)
class Budget:
    """What a request may spend; all of it optional, and all that is given holds.

    Attributes:
        mean: Mean FLOPs per image.
        limit: FLOPs that no image may exceed.
        deadline_ms: Milliseconds from the request's arrival to its answer.
    """

    mean: float | None
    limit: float | None
    deadline_ms: float | None


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """The headers of one request that the service understands; printable ASCII throughout.

    Attributes:
        budget: What the request may spend.
        model: A task, a model, or ``name@version``.
        api_key: As sent.
        request_id: 1 to 128 characters without spaces; safe to echo and to log.
        content_type: As sent, with its parameters; empty if there is none.
        content_encoding: Lower case; several encodings joined by commas; empty if there is none.
    """

    budget: Budget
    model: str | None
    api_key: str | None
    request_id: str | None
    content_type: str
    content_encoding: str

    @property
    def media_type(self) -> str:
        """The content type in lower case and without parameters, as it is to be compared."""
        return self.content_type.partition(";")[0].strip().lower()


def parse_number(text: str, example: str = FLOPS) -> float:
    """Parse a plain or scientific number, optionally with a suffix ``k``, ``M``, ``G`` or ``T``.

    The suffixes are powers of 1000. The result is the double nearest to the decimal value: the suffix joins
    the exponent before anything is rounded, so ``0.1M`` is 100000.0 and not a hair beside it.

    Args:
        text: The number.
        example: Of what is meant, for the error.

    Raises:
        ValueError: Not such a number, longer than ``NUMBER_CHARACTERS``, zero, or beyond what a double holds.
    """
    # Digits are spelled [0-9], since \d and float() also take those of other scripts.
    parts = _NUMBER.fullmatch(text) if len(text) <= NUMBER_CHARACTERS else None
    if parts is not None:
        mantissa, exponent, suffix = parts.groups()
        value = float(f"{mantissa}e{int(exponent or 0) + _EXPONENT[suffix]}")
        if value > 0 and isfinite(value):
            return value
    raise ValueError(f"{quoted(text)} is not a positive number such as {example}")


def parse_headers(raw: list[tuple[bytes, bytes]]) -> RequestHeaders:
    """Read the headers of one request.

    Args:
        raw: ``scope["headers"]`` of ASGI: lower-case names and values in the order sent.

    Raises:
        InvalidHeader: One of ours is repeated, empty, unparsable or not printable ASCII. The detail names the
            header and shows the value, except for an API key, which is not to travel any further.
    """
    found: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in _OURS:
            value = value.strip(b" \t")
            if name in found:
                value = _joined(name, found[name], value)
            elif not value and name not in _MAY_BE_EMPTY:
                raise InvalidHeader(f"{_OURS[name]} is empty; leave it out or give it a value")
            found[name] = value
    get = found.get
    request_id = _text(b"x-request-id", get(b"x-request-id"))
    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        reason = "is not 1 to 128 printable ASCII characters without spaces"
        raise InvalidHeader(f"X-Request-Id: {quoted(request_id)} {reason}")
    return RequestHeaders(
        _budget(get(b"x-flop-budget"), get(b"x-flop-limit"), get(b"x-deadline-ms")),
        _text(b"x-model", get(b"x-model")),
        _text(b"x-api-key", get(b"x-api-key")),
        request_id,
        _text(b"content-type", get(b"content-type")) or "",
        (_text(b"content-encoding", get(b"content-encoding")) or "").lower(),
    )


def valid_request_id(value: bytes) -> bool:
    """Whether ``value`` is 1 to 128 printable ASCII characters without spaces: safe to echo and to log."""
    return _REQUEST_ID.fullmatch(value.decode("latin-1")) is not None


# Clients repeat a handful of budgets. Bounded, since the values are theirs.
@lru_cache(maxsize=1024)
def _budget(mean: bytes | None, limit: bytes | None, deadline_ms: bytes | None) -> Budget:
    return Budget(
        _number(b"x-flop-budget", mean),
        _number(b"x-flop-limit", limit),
        _number(b"x-deadline-ms", deadline_ms),
    )


def _number(name: bytes, value: bytes | None) -> float | None:
    if value is None:
        return None
    example = MILLISECONDS if name == b"x-deadline-ms" else FLOPS
    try:
        return parse_number(value.decode("latin-1"), example)
    except ValueError as error:
        raise InvalidHeader(f"{_OURS[name]}: {error}") from error


def _text(name: bytes, value: bytes | None) -> str | None:
    if value is None:
        return None
    text = value.decode("latin-1")
    if text.isascii() and text.isprintable():
        return text
    raise InvalidHeader(f"{_OURS[name]}: {_shown(name, value)} is not printable ASCII")


def _joined(name: bytes, first: bytes, second: bytes) -> bytes:
    """Join a second ``Content-Encoding``, which is a list by definition; refuse a second one of any other."""
    if name == b"content-encoding":
        return first + b", " + second
    raise InvalidHeader(f"{_OURS[name]} is given twice, the second time as {_shown(name, second)}")


def _shown(name: bytes, value: bytes) -> str:
    """A value as an error shows it."""
    return "a value not repeated here" if name == b"x-api-key" else quoted(value.decode("latin-1"))


def quoted(value: str) -> str:
    """A client's value as details show it: quoted, clipped to ``SHOWN_CHARACTERS``, unprintables as ``?``."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in value[:SHOWN_CHARACTERS])
    return f"'{shown}…'" if len(value) > SHOWN_CHARACTERS else f"'{shown}'"
