"""From single requests to the figures of a report."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, sqrt

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}

NORMAL_95 = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""


def percentiles_ms(seconds: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest, milliseconds, each a time that occurred; empty without times."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    # Nearest rank: the smallest time that at least that share of the requests did not exceed.
    ranks = {name: max(1, ceil(round(share * len(ordered), 9))) for name, share in SHARES.items()}
    return {name: round(1000 * ordered[rank - 1], 3) for name, rank in ranks.items()}


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a ``share`` of ``count`` independent cases, within 0 and 1 (Wilson 1927)."""
    square = NORMAL_95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = NORMAL_95 / (1 + square / count) * sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
