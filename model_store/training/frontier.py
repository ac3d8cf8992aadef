"""Accuracy against measured time: what an artifact's exits and budgets cost on this machine.

Time is not FLOPs, so networks that are to be fast are compared by the clock, in turns, in one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from model_store.flops import StageFlops
from model_store.nets.staged import Features, Span
from model_store.policy import Policy, make_plan, path_spans
from model_store.training.report import standard_error
from model_store.training.results import Evaluation
from model_store.training.scores import Scores, SpanRunner

Milliseconds = Mapping[Span, tuple[float, ...]]
"""Median time of one launch of a span, ms, at each batch size."""


class TimedPoint(BaseModel, frozen=True, extra="forbid"):
    """What one exit alone, or one mean budget, gets right and takes."""

    name: str = Field(description="``exit 3``, or the budget: ``20M``.")
    mean_flops: float = Field(description="FLOPs per image that were spent.")
    accuracy: float = Field(ge=0, le=1)
    milliseconds: tuple[float, ...] = Field(
        description="Per image, at each batch size; all launches of a budget's path are full batches."
    )


class TimedModel(BaseModel, frozen=True, extra="forbid"):
    """One artifact's exits and budgets by the clock."""

    model: str = Field(description="Artifact, name@version.")
    exits: tuple[TimedPoint, ...]
    budgets: tuple[TimedPoint, ...] = Field(description="By rising mean FLOPs.")


class PairedExit(BaseModel, frozen=True, extra="forbid"):
    """One exit of a network against the same exit of another, row by row."""

    model: str
    against: str
    exit: int = Field(ge=1)
    gain: float = Field(description="Difference of the accuracies, a share.")
    standard_error: float = Field(description="Of the gain, from the rows.")


class Frontier(BaseModel, frozen=True, extra="forbid"):
    """Several artifacts on the same rows and the same machine."""

    rows: str
    count: int
    device: str
    threads: int
    rounds: int = Field(description="Launches behind each median.")
    batches: tuple[int, ...]
    models: tuple[TimedModel, ...]
    paired: tuple[PairedExit, ...] = Field(description="Against the first model.")


@dataclass(frozen=True)
class Contestant:
    """An artifact that is to be timed: how it runs, what it costs, and what it got right."""

    runner: SpanRunner
    stages: tuple[StageFlops, ...]
    policy: Policy
    evaluation: Evaluation
    scores: Scores

    def spans(self) -> list[Span]:
        """All that its exits alone and its budgets launch."""
        wanted = {Span(0, k) for k in range(len(self.stages))}
        for row in self.evaluation.budgets:
            wanted.update(path_spans(make_plan(self.policy, self.stages, row.budget, None).exits))
        return sorted(wanted)


def launch_times(
    contestants: Sequence[Contestant],
    images: Tensor,
    batches: Sequence[int],
    rounds: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Milliseconds]:
    """Time every span of every contestant in turns, so that what else the machine does hits all alike.

    Args:
        contestants: Their spans are run once before the clock starts.
        images: At least as many as the largest batch, uint8 (N, 3, H, W).
        batches: Images per launch.
        rounds: Launches behind each median.
        report: Called with the rounds done and the rounds in all.
    """
    seconds: dict[tuple[int, Span, int], list[float]] = {}
    for place, batch in enumerate(batches):
        inputs = [_inputs(contestant, images[:batch]) for contestant in contestants]
        for done in range(rounds):
            for number, (contestant, given) in enumerate(zip(contestants, inputs, strict=True)):
                for span, features in given.items():
                    started_s = time.perf_counter()
                    contestant.runner.run(span, features)
                    took_s = time.perf_counter() - started_s
                    seconds.setdefault((number, span, batch), []).append(took_s)
            report(place * rounds + done + 1, rounds * len(batches))
    return [
        {
            span: tuple(1e3 * statistics.median(seconds[number, span, batch]) for batch in batches)
            for span in contestant.spans()
        }
        for number, contestant in enumerate(contestants)
    ]


def _inputs(contestant: Contestant, images: Tensor) -> dict[Span, Features]:
    """What each span is given; every span has run once."""
    handed_on: dict[int, Features] = {0: (images,)}
    inputs = {}
    for span in contestant.spans():
        if span.first not in handed_on:
            features, _ = contestant.runner.run(Span(0, span.first - 1), (images,))
            handed_on[span.first] = tuple(x.clone() for x in features)  # a program's own buffers
        inputs[span] = handed_on[span.first]
        contestant.runner.run(span, inputs[span])
    return inputs


def timed(contestant: Contestant, launches: Milliseconds, batches: Sequence[int]) -> TimedModel:
    """Its exits and budgets by the clock."""
    result = contestant.evaluation
    exits = tuple(
        TimedPoint(
            name=f"exit {spec.exit}",
            mean_flops=spec.direct_flops,
            accuracy=spec.accuracy,
            milliseconds=_per_image({Span(0, spec.exit - 1): 1.0}, launches, batches),
        )
        for spec in result.exits
    )
    budgets = tuple(
        TimedPoint(
            name=f"{row.budget / 1e6:.4g}M",
            mean_flops=row.mean_flops,
            accuracy=row.accuracy,
            milliseconds=_per_image(_reached(contestant, row.budget, row.shares), launches, batches),
        )
        for row in sorted(result.budgets, key=lambda row: row.mean_flops)
    )
    return TimedModel(model=result.model, exits=exits, budgets=budgets)


def _reached(contestant: Contestant, budget: float, shares: Sequence[float]) -> dict[Span, float]:
    """The share of images that runs each span of a budget's path."""
    spans = path_spans(make_plan(contestant.policy, contestant.stages, budget, None).exits)
    return {span: sum(shares[span.first :]) for span in spans}


def _per_image(
    reached: Mapping[Span, float], launches: Milliseconds, batches: Sequence[int]
) -> tuple[float, ...]:
    return tuple(
        sum(share * launches[span][place] for span, share in reached.items()) / batch
        for place, batch in enumerate(batches)
    )


def paired(contestants: Sequence[Contestant]) -> tuple[PairedExit, ...]:
    """Every exit that the first contestant has too, row by row against it."""
    first, *others = contestants
    found = []
    for other in others:
        for k, (ours, theirs) in enumerate(zip(other.scores.correct, first.scores.correct, strict=False)):
            difference = ours.astype(float) - theirs
            found.append(
                PairedExit(
                    model=other.evaluation.model,
                    against=first.evaluation.model,
                    exit=k + 1,
                    gain=float(difference.mean()),
                    standard_error=standard_error(difference),
                )
            )
    return tuple(found)


def frontier(
    contestants: Sequence[Contestant],
    images: Tensor,
    batches: Sequence[int],
    rounds: int,
    *,
    device: str,
    threads: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Frontier:
    """Time the contestants and set their accuracy beside it.

    Args:
        contestants: Evaluated on the same rows; the first is what others are compared with.
        images: As for ``launch_times``.
        batches: Images per launch.
        rounds: Launches behind each median.
        device: What runs them, for the record.
        threads: Processor threads per launch, for the record.
        report: As for ``launch_times``.
    """
    with torch.inference_mode():
        launches = launch_times(contestants, images, batches, rounds, report)
    first = contestants[0].evaluation
    return Frontier(
        rows=first.rows,
        count=first.count,
        device=device,
        threads=threads,
        rounds=rounds,
        batches=tuple(batches),
        models=tuple(timed(c, times, batches) for c, times in zip(contestants, launches, strict=True)),
        paired=paired(contestants),
    )
