"""The exit policy of a model: from a FLOP budget to consulted exits and thresholds.

A policy is a table from calibration, versioned apart from the weights. Its *segments* each consult one set
of exits; a segment's *entries* are the points that optimal stopping gives for falling prices per FLOP.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import inf
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from model_store.exits import Confidence
from model_store.flops import StageFlops, direct_flops
from model_store.nets.staged import Span

AIM = 0.993
"""Share of a mean budget that is spent; the rest is what the ledger's bound needs, see ``ledger``."""


class PolicyEntry(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One point of the accuracy-FLOPs curve: what one price per FLOP leads to."""

    mean_flops: float = Field(gt=0, description="Mean FLOPs per image on the held-out rows.")
    accuracy: float = Field(ge=0, le=1, description="Share of the budget-check rows answered correctly.")
    thresholds: tuple[float, ...] = Field(description="Confidence to leave with, at each exit but the last.")
    shares: tuple[float, ...] = Field(description="Share of the held-out rows that leave at each exit.")


class PolicySegment(BaseModel, frozen=True, extra="forbid"):
    """Entries that consult the same exits, cheapest first."""

    exits: tuple[int, ...] = Field(min_length=1, description="Consulted exits, 1-based, in depth order.")
    entries: tuple[PolicyEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.exits) != sorted(set(self.exits)) or self.exits[0] < 1:
            raise ValueError(f"exits must rise from 1 on, got {self.exits}")
        for entry in self.entries:
            if len(entry.thresholds) != len(self.exits) - 1 or len(entry.shares) != len(self.exits):
                raise ValueError(f"an entry of exits {self.exits} has {len(entry.thresholds)} thresholds")
        costs = [entry.mean_flops for entry in self.entries]
        if costs != sorted(costs):
            raise ValueError(f"entries of exits {self.exits} are not in the order of their mean FLOPs")
        return self

    @cached_property
    def costs(self) -> tuple[float, ...]:
        """Mean FLOPs of the entries, rising."""
        return tuple(entry.mean_flops for entry in self.entries)

    def thresholds_at(self, mean_flops: float) -> tuple[float, ...]:
        """Thresholds for a mean, interpolated between the two entries around it, clamped to the ends."""
        lower, upper, way = self._around(mean_flops)
        return tuple(a + way * (b - a) for a, b in zip(lower.thresholds, upper.thresholds, strict=True))

    def accuracy_at(self, mean_flops: float) -> float:
        """Calibrated accuracy for a mean, interpolated likewise."""
        lower, upper, way = self._around(mean_flops)
        return lower.accuracy + way * (upper.accuracy - lower.accuracy)

    def shares_at(self, mean_flops: float) -> tuple[float, ...]:
        """Share of the images that leave at each exit for a mean, interpolated likewise."""
        lower, upper, way = self._around(mean_flops)
        return tuple(a + way * (b - a) for a, b in zip(lower.shares, upper.shares, strict=True))

    def _around(self, mean_flops: float) -> tuple[PolicyEntry, PolicyEntry, float]:
        """The entries below and above a mean, and how far between them it is, 0..1."""
        above = bisect_right(self.costs, mean_flops)
        lower = self.entries[max(above - 1, 0)]
        upper = self.entries[min(above, len(self.entries) - 1)]
        gap = upper.mean_flops - lower.mean_flops
        return lower, upper, (mean_flops - lower.mean_flops) / gap if gap > 0 else 0.0


class Policy(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Calibrated answer to "which exits and thresholds for this budget?"."""

    confidence: Confidence = Field(description="Measure that the thresholds are in.")
    default_flops: float = Field(gt=0, description="Mean budget of requests that name none.")
    segments: tuple[PolicySegment, ...] = Field(min_length=1, description="By rising mean FLOPs.")
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="Divisor of each exit's logits before anything is read from them; None for 1."
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        starts = [segment.costs[0] for segment in self.segments]
        if starts != sorted(starts):
            raise ValueError("segments are not in the order of their mean FLOPs")
        return self

    @cached_property
    def id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the policy's canonical JSON."""
        # Without what is None, so that an optional field never changes the id of a policy that lacks it.
        content = self.model_dump(mode="json", exclude_none=True)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def temperature(self, k: int) -> float:
        """Temperature of exit ``k``, 0-based."""
        return 1.0 if self.temperatures is None else self.temperatures[k]

    def segment_for(self, mean_flops: float) -> PolicySegment:
        """The last segment that a mean budget pays for, or the cheapest one.

        A segment of a single exit costs the same for every image, so it needs no safety margin.
        """
        chosen = self.segments[0]
        for segment in self.segments:
            allowed = mean_flops if len(segment.exits) == 1 else mean_flops * AIM
            if segment.costs[0] <= allowed:
                chosen = segment
        return chosen

    def curve(self) -> list[tuple[float, float]]:
        """All (mean FLOPs, accuracy) points, by rising mean."""
        return [(entry.mean_flops, entry.accuracy) for segment in self.segments for entry in segment.entries]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one image may do, resolved once at admission.

    Attributes:
        exits: Consulted exits, 0-based, in depth order.
        costs: FLOPs spent by an image that leaves at each of them: blocks so far plus heads consulted so far.
        thresholds: Confidence from which an image leaves at each of them; ``-inf`` at the last.
        budget: Mean FLOPs per image that the ledger holds; ``None`` if every image costs the same.
        allowed: FLOPs per image that the request allows, for the metrics.
        segment: Where the thresholds come from; ``None`` for a single exit.
    """

    exits: tuple[int, ...]
    costs: tuple[int, ...]
    thresholds: tuple[float, ...]
    budget: float | None
    allowed: float
    segment: PolicySegment | None

    def thresholds_at(self, mean_flops: float) -> tuple[float, ...]:
        """This plan's thresholds for another mean budget, as the ledger asks for them."""
        if self.segment is None:
            return self.thresholds
        return (*self.segment.thresholds_at(mean_flops)[: len(self.exits) - 1], -inf)

    def spans(self) -> list[Span]:
        """What an image that never leaves early runs through."""
        return path_spans(self.exits)


class UnaffordableError(ValueError):
    """A budget or limit is below the cheapest exit; ``cheapest`` is that exit's FLOPs."""

    def __init__(self, name: str, value: float, cheapest: int) -> None:
        """``name`` says which of the two, ``value`` its FLOPs."""
        super().__init__(
            f"the {name} of {value:.0f} FLOPs is below the cheapest exit, which costs {cheapest} FLOPs"
        )
        self.cheapest = cheapest


def path_spans(exits: Sequence[int]) -> list[Span]:
    """The spans between consulted ``exits`` (0-based), from the images on."""
    firsts = [0, *(k + 1 for k in exits[:-1])]
    return [Span(first, last) for first, last in zip(firsts, exits, strict=True)]


def path_flops(stages: Sequence[StageFlops], exits: Sequence[int]) -> tuple[int, ...]:
    """FLOPs of leaving at each consulted exit (0-based): blocks so far and heads consulted so far."""
    blocks = list(accumulate(stage.block for stage in stages))
    heads = accumulate(stages[k].head for k in exits)
    return tuple(blocks[k] + spent for k, spent in zip(exits, heads, strict=True))


def make_plan(policy: Policy, stages: Sequence[StageFlops], mean: float | None, limit: float | None) -> Plan:
    """Resolve a request's budget and limit.

    A limit alone consults one exit, the deepest whose direct cost fits. With a budget, the policy's exits up
    to the limit are consulted; where a single exit that is deeper than those fits both, it is taken instead.

    Args:
        policy: The model's policy.
        stages: FLOPs of each stage.
        mean: Mean FLOPs per image, or ``None``.
        limit: FLOPs that no image may exceed, or ``None``.

    Raises:
        UnaffordableError: Budget or limit is below the cheapest exit.
    """
    direct = direct_flops(tuple(stages))
    for name, value in (("budget", mean), ("limit", limit)):
        if value is not None and value < min(direct):
            raise UnaffordableError(name, value, min(direct))
    if mean is None and limit is not None:
        return _single_exit(direct, limit)
    if mean is None:
        mean = policy.default_flops
    cap = inf if limit is None else limit
    aim = min(mean, cap)
    segment = policy.segment_for(aim)
    path = path_flops(stages, [k - 1 for k in segment.exits])
    exits = tuple(k - 1 for k, cost in zip(segment.exits, path, strict=True) if cost <= cap)
    if len(exits) <= 1:
        # FLOPs of one exit alone are certain, so they may be as high as budget and limit themselves.
        alone = _single_exit(direct, aim)
        if not exits or alone.exits[0] > exits[0]:
            return alone
    certain = path[len(exits) - 1] <= mean  # no image can exceed it: no margin, no account
    if not certain and path[0] > mean * AIM:  # nothing is left for going on
        return _single_exit(direct, aim)
    thresholds = (*segment.thresholds_at(aim if certain else aim * AIM)[: len(exits) - 1], -inf)
    budget = None if certain else mean
    return Plan(exits, path[: len(exits)], thresholds, budget, mean, segment)


def stepwise(policy: Policy, stages: Sequence[StageFlops], plan: Plan) -> Plan:
    """A single-exit plan with answers in hand on the way, for requests with a deadline.

    Consulted are the exits of the policy's richest segment, as many as the plan's allowance pays for beside
    the way to the last exit, and at least one: where that is too dear, the way ends earlier. Nothing leaves
    early because of its confidence.
    """
    several = [segment for segment in policy.segments if len(segment.exits) > 1]
    richest = (several or policy.segments)[-1]
    for last in range(plan.exits[-1], 0, -1):
        before = [k - 1 for k in richest.exits if k - 1 < last]
        while before:
            exits = (*before, last)
            path = path_flops(stages, exits)
            if path[-1] <= plan.allowed:
                return Plan(exits, path, (*(inf,) * len(before), -inf), None, plan.allowed, None)
            before.pop()
    return plan


def _single_exit(direct: Sequence[int], cap: float) -> Plan:
    """The deepest exit whose direct cost is at most ``cap``; every image leaves there."""
    deepest = max(k for k, cost in enumerate(direct) if cost <= cap)
    return Plan((deepest,), (direct[deepest],), (-inf,), None, cap, None)
