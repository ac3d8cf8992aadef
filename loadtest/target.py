"""What a service says of itself before it is loaded, and whether it answers what will be asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from loadtest.errors import LoadTestError

Probe = tuple[bytes, dict[str, str]]
"""Body and headers of an answer."""

NO_BUDGET = "none"
"""Stands for requests without a budget of their own."""

SHOWN_CHARACTERS = 300
"""Of an answer that is an error."""


def request_headers(model: str, budget: str) -> dict[str, str]:
    """The headers that ask ``model`` under ``budget``; those without a value say nothing."""
    return {"X-Model": model, "X-FLOP-Budget": "" if budget == NO_BUDGET else budget}


async def probe(session: aiohttp.ClientSession, content: bytes, headers: Mapping[str, str]) -> Probe:
    """Have one image classified.

    Raises:
        LoadTestError: It is not.
    """
    asked = {name: value for name, value in headers.items() if value}
    asked["Content-Type"] = "application/octet-stream"
    async with session.post("classify", data=content, headers=asked) as answer:
        body = await answer.read()
    if answer.status != 200:
        with_headers = ", ".join(f"{name}: {value}" for name, value in headers.items() if value)
        raise LoadTestError(
            f"{answer.url} with {with_headers or 'no headers'}: {answer.status} {reason(body)}"
        )
    kept = ("Content-Type", "X-FLOPs", "X-Exit", "X-Request-Id", "Server-Timing")
    return body, {name: answer.headers[name] for name in kept if name in answer.headers}


def reason(body: bytes) -> str:
    """What an error says: its detail, or whatever else it is."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:SHOWN_CHARACTERS].strip()


async def loaded_models(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    """The service's description of every loaded model."""
    async with session.get("models") as answer:
        answer.raise_for_status()
        listed: list[dict[str, Any]] = (await answer.json())["models"]
    return listed


def default_budgets(model: Mapping[str, Any]) -> tuple[str, ...]:
    """A quarter, a half and the whole of the way up the model's curve, and none; for one exit: none."""
    means = [point["mean_flops"] for point in model["curve"]]
    low, high = min(means), max(means)
    if low == high:
        return (NO_BUDGET,)
    return (*(f"{(low + way * (high - low)) / 1e6:.1f}M" for way in (0.25, 0.5, 1.0)), NO_BUDGET)
