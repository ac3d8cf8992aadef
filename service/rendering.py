"""How an answer is written: JSON bodies and headers, from what any process may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from service.errors import ServiceError
from service.headers import Budget

EXACT: Final = 2**53
"""Up to here every reader of JSON has exact integers, RFC 8259 section 6. Beyond 64 bits ours writes none."""


class ModelCard(NamedTuple):
    """What answers say of the model that gave them.

    Attributes:
        name: Of the model.
        version: Of the model.
        policy: Id of the policy in force.
        task: That it is for.
        classes: Labels by class index.
        exits: How many it has.
    """

    name: str
    version: int
    policy: str
    task: str
    classes: tuple[str, ...]
    exits: int


class Said(Protocol):
    """What answers say of one image; ``engine.ticket.Prediction`` has it all."""

    @property
    def classes(self) -> tuple[int, ...]:
        """Class indices, most probable first."""

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Their probabilities."""

    @property
    def exit(self) -> int:
        """The exit that answered, 1-based."""

    @property
    def flops(self) -> int:
        """FLOPs charged."""

    @property
    def degraded(self) -> bool:
        """Whether load made the plan cheaper than asked."""


def summary(card: ModelCard, budget: Budget, flops: int, seconds: Mapping[str, float]) -> dict[str, Any]:
    """All of an answer but its predictions; the shape of ``schemas.ClassifyBody``.

    Args:
        card: Of the model that answered.
        budget: As the request gave it.
        flops: Charged for all images.
        seconds: Times by name.
    """
    return {
        "model": card.name,
        "version": card.version,
        "policy": card.policy,
        "task": card.task,
        "budget": {
            "mean": plain_number(budget.mean),
            "limit": plain_number(budget.limit),
            "deadline_ms": plain_number(budget.deadline_ms),
        },
        "flops": flops,
        "timing_ms": {name: round(value * 1000, 3) for name, value in seconds.items()},
    }


def entry(card: ModelCard, outcome: Said | ServiceError) -> dict[str, Any]:
    """One element of ``predictions``; the shape of ``schemas.PredictionBody`` or ``FailedImage``."""
    if isinstance(outcome, ServiceError):
        return {"error": {"code": outcome.code, "detail": outcome.detail}}
    labels = card.classes
    top = [
        {"label": labels[index], "index": index, "probability": probability}
        for index, probability in zip(outcome.classes, outcome.probabilities, strict=True)
    ]
    return {
        **top[0],
        "top": top,
        "exit": outcome.exit,
        "exits": card.exits,
        "flops": outcome.flops,
        "degraded": outcome.degraded,
    }


def spent_headers(flops: int, seconds: Mapping[str, float], exits: Sequence[int]) -> dict[str, str]:
    """``X-FLOPs``, ``Server-Timing`` and ``X-Exit``, which only one of ``exits`` has a place in."""
    timing = ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())
    headers = {"X-FLOPs": str(flops), "Server-Timing": timing}
    if len(exits) == 1:
        headers["X-Exit"] = str(exits[0])
    return headers


def plain_number(value: float | None) -> float | int | None:
    """A whole number without its fraction, as it was sent; unless JSON has no such integers."""
    return int(value) if value is not None and value.is_integer() and value <= EXACT else value
