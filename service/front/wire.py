"""What fronts and the engine tell each other: packed, with the pixels elsewhere.

A message is a head (bytes that follow, kind, number of the request) and what its kind says. Numbers are
little-endian; of requests they count from 1 in each front. What is rare is JSON.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

import orjson

from service.errors import ServiceError
from service.headers import Budget
from service.rendering import ModelCard

HEAD = Struct("<IBI")
"""Bytes that follow, kind, number."""


class Kind(IntEnum):
    """What a message is."""

    ASK = 1  # front: would a request be taken, and as what is its image to be decoded? A ``Wanted``
    IMAGE = 2  # front: its image is in a slot. A ``Wanted``
    FAILED = 3  # front: its image cannot be used. A ``Wanted`` with ``failure``
    CANCEL = 4  # front: nobody waits for it any more
    DECODE = 5  # engine: decode its image as this says and send it. The text of an ``InputSpec``
    ANSWER = 6  # engine: a ``Verdict``
    REFUSAL = 7  # engine: an error
    GONE = 8  # engine: it has been cancelled
    CARD = 9  # engine: what verdicts mean by a number from now on; JSON


Message = tuple[int, int, bytes]
"""Kind, number, and what follows."""


class Wanted(NamedTuple):
    """A request for one image.

    Attributes:
        started_s: When it came, monotonic seconds.
        budget: As the request gave it.
        slot: Of the image.
        spec: How it was decoded, the text of an ``InputSpec``.
        model: As asked for; empty for the default.
        api_key: As sent; empty if none was.
        request_id: For the log.
        failure: Why there is no image: an error.
    """

    started_s: float
    budget: Budget
    slot: int = 0
    spec: bytes = b""
    model: str = ""
    api_key: str = ""
    request_id: str = ""
    failure: bytes = b""


class Verdict(NamedTuple):
    """The engine's answer; the attributes are those of ``engine.ticket.Prediction``.

    Attributes:
        card: Number of the model's card.
        queue_s: Time in queues, seconds.
        compute_s: Time in launches, seconds.
        flops: FLOPs charged.
        exit: The exit that answered, 1-based.
        degraded: Whether load made the plan cheaper than asked.
        classes: Class indices, most probable first.
        probabilities: Their probabilities.
    """

    card: int
    queue_s: float
    compute_s: float
    flops: int
    exit: int
    degraded: bool
    classes: tuple[int, ...]
    probabilities: tuple[float, ...]


_WANTED = Struct("<ddddIHHHHI")  # started_s, mean, limit, deadline_ms (0: none), slot, lengths of the texts
_VERDICT = Struct("<IddQHBB")  # as in Verdict, then how many classes


def packed(kind: Kind, number: int, payload: bytes = b"") -> bytes:
    """A message."""
    return HEAD.pack(len(payload), kind, number) + payload


class Messages:
    """Cuts what a socket delivers into messages."""

    def __init__(self) -> None:
        """Begin at a boundary."""
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes."""
        data = self._rest + data if self._rest else data
        found: list[Message] = []
        at, head = 0, HEAD.size
        while len(data) - at >= head:
            length, kind, number = HEAD.unpack_from(data, at)
            end = at + head + length
            if end > len(data):
                break
            found.append((kind, number, data[at + head : end]))
            at = end
        self._rest = data[at:]
        return found


def pack_wanted(wanted: Wanted) -> bytes:
    """A request as bytes."""
    budget = wanted.budget
    texts = (wanted.spec, wanted.model.encode(), wanted.api_key.encode(), wanted.request_id.encode())
    numbers = (budget.mean or 0.0, budget.limit or 0.0, budget.deadline_ms or 0.0)
    lengths = (*map(len, texts), len(wanted.failure))
    return b"".join((_WANTED.pack(wanted.started_s, *numbers, wanted.slot, *lengths), *texts, wanted.failure))


def unpack_wanted(payload: bytes) -> Wanted:
    """The request that was packed."""
    started_s, mean, limit, deadline_ms, slot, *lengths = _WANTED.unpack_from(payload)
    texts, at = [], _WANTED.size
    for length in lengths:
        texts.append(payload[at : at + length])
        at += length
    spec, model, api_key, request_id, failure = texts
    budget = _budget(mean, limit, deadline_ms)
    names = (model.decode(), api_key.decode(), request_id.decode())
    return Wanted(started_s, budget, slot, spec, *names, failure)


@lru_cache(maxsize=1024)  # clients repeat a handful of budgets
def _budget(mean: float, limit: float, deadline_ms: float) -> Budget:
    return Budget(mean or None, limit or None, deadline_ms or None)


def pack_verdict(verdict: Verdict) -> bytes:
    """An answer as bytes."""
    *fields, classes, probabilities = verdict
    count = len(classes)
    return _VERDICT.pack(*fields, count) + _top(count).pack(*classes, *probabilities)


def unpack_verdict(payload: bytes) -> Verdict:
    """The answer that was packed."""
    card, queue_s, compute_s, flops, exit_, degraded, count = _VERDICT.unpack_from(payload)
    values = _top(count).unpack_from(payload, _VERDICT.size)
    return Verdict(card, queue_s, compute_s, flops, exit_, bool(degraded), values[:count], values[count:])


@lru_cache(maxsize=256)
def _top(count: int) -> Struct:
    return Struct(f"<{count}I{count}d")


def pack_error(error: ServiceError) -> bytes:
    """An error as bytes."""
    return orjson.dumps([error.code, error.detail.encode("utf-8", "replace").decode(), dict(error.headers)])


def unpack_error(payload: bytes) -> ServiceError:
    """The error that was packed."""
    code, detail, headers = orjson.loads(payload)
    kind = _kinds(ServiceError)[code]
    error = kind.__new__(kind)
    ServiceError.__init__(error, detail, headers)  # leaves make details and headers of other things
    return error


@lru_cache(maxsize=1)
def _kinds(root: type[ServiceError]) -> dict[str, type[ServiceError]]:
    """The leaves of the tree of errors, by code."""
    leaves: dict[str, type[ServiceError]] = {}
    waiting = [root]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if hasattr(kind, "code"):
            leaves[kind.code] = kind
    return leaves


def pack_card(card: ModelCard) -> bytes:
    """A model's card as bytes."""
    return orjson.dumps(list(card))  # it refuses named tuples


def unpack_card(payload: bytes) -> ModelCard:
    """The card that was packed."""
    name, version, policy, task, classes, exits = orjson.loads(payload)
    return ModelCard(name, version, policy, task, tuple(classes), exits)
