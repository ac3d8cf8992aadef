"""Budgets as request parameters: many clients of the protocol cannot set a header for each request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequest
from service.headers import FLOPS, MILLISECONDS, Budget, parse_number


def merged(headers: Budget, parameters: Mapping[str, Any]) -> Budget:
    """What a request may spend by its headers and its parameters together.

    Args:
        headers: As parsed.
        parameters: ``flop_budget``, ``flop_limit``, ``deadline_ms``: numbers, or text as in the headers.
            ``timeout``, microseconds, is Triton's word for a deadline; 0 is none. Others are ignored.

    Raises:
        InvalidRequest: One is unusable, or two ways to say the same contradict each other.
    """
    timeout = parameters.get("timeout")
    timeout_us = None if timeout == 0 and timeout is not False else _number(parameters, "timeout")
    deadlines = {
        "X-Deadline-Ms": headers.deadline_ms,
        "deadline_ms": _number(parameters, "deadline_ms"),
        "timeout": None if timeout_us is None else timeout_us / 1000,
    }
    return Budget(
        _agreed({"X-FLOP-Budget": headers.mean, "flop_budget": _number(parameters, "flop_budget")}),
        _agreed({"X-FLOP-Limit": headers.limit, "flop_limit": _number(parameters, "flop_limit")}),
        _agreed(deadlines),
    )


def _number(parameters: Mapping[str, Any], name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) not in (int, float, str):
        raise InvalidRequest(f"{name} is a number, not a {type(value).__name__}")
    example = {"deadline_ms": MILLISECONDS, "timeout": "50000, in microseconds"}.get(name, FLOPS)
    try:
        # Through its text: one set of rules for headers and parameters.
        return parse_number(str(value), example)
    except ValueError as error:
        raise InvalidRequest(f"{name}: {error}") from error


def _agreed(given: Mapping[str, float | None]) -> float | None:
    """The one value of those given."""
    values = {name: value for name, value in given.items() if value is not None}
    if len(set(values.values())) > 1:
        said = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise InvalidRequest(f"{said}: they contradict each other")
    return next(iter(values.values()), None)
