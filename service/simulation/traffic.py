"""Traffic: who asks for what, and when. As JSON lines it is what ``loadtest.trace`` records and replays."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from pydantic import BaseModel, Field, TypeAdapter


class Arrival(BaseModel, frozen=True, extra="forbid"):
    """One request with one image."""

    arrival_s: float = Field(ge=0, description="Since the beginning of the trace.")
    row: int = Field(ge=0, description="Of the labelled rows that the trace was recorded with.")
    budget: float | None = Field(None, gt=0, description="Mean FLOPs per image.")
    limit: float | None = Field(None, gt=0, description="FLOPs that it may not exceed.")
    deadline_ms: float | None = Field(None, gt=0, description="From its arrival to the answer.")


_TRACE = TypeAdapter(list[Arrival])


def read_trace(path: Path) -> list[Arrival]:
    """Arrivals of a file of JSON lines, by time.

    Raises:
        ValueError: A line is none.
    """
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    return sorted(_TRACE.validate_python(lines), key=lambda arrival: arrival.arrival_s)


def poisson(
    rate: float,
    count: int,
    rows: int,
    seed: int = 0,
    asked: Sequence[Arrival] = (Arrival(arrival_s=0, row=0),),
) -> list[Arrival]:
    """Independent users: ``count`` requests at random times.

    Args:
        rate: Requests a second, on average.
        count: Requests.
        rows: Rows that there are to ask about, in a random order.
        seed: Of times, rows and what is asked.
        asked: Budget, limit and deadline, drawn evenly.
    """
    chance = random.Random(seed)
    return [
        chance.choice(asked).model_copy(update={"arrival_s": time_s, "row": chance.randrange(rows)})
        for time_s in _times(chance, rate, count)
    ]


def _times(chance: random.Random, rate: float, count: int) -> Iterator[float]:
    time_s = 0.0
    for _ in range(count):
        yield time_s
        time_s += chance.expovariate(rate)


def scaled(arrivals: Sequence[Arrival], rate: float) -> list[Arrival]:
    """The same requests in the same pattern, faster or slower: ``rate`` requests a second on average.

    Raises:
        ValueError: There are fewer than two, or all at once.
    """
    if len(arrivals) < 2 or arrivals[-1].arrival_s <= arrivals[0].arrival_s:
        raise ValueError("a trace without a duration has no rate")
    first_s, seconds = arrivals[0].arrival_s, arrivals[-1].arrival_s - arrivals[0].arrival_s
    factor = len(arrivals) / rate / seconds
    return [
        arrival.model_copy(update={"arrival_s": (arrival.arrival_s - first_s) * factor})
        for arrival in arrivals
    ]


def reshuffled(arrivals: Sequence[Arrival], seed: int) -> list[Arrival]:
    """The same moments with what is asked in another order: another day of the same users."""
    asked = random.Random(seed).sample(arrivals, len(arrivals))
    return [
        other.model_copy(update={"arrival_s": arrival.arrival_s})
        for arrival, other in zip(arrivals, asked, strict=True)
    ]
