"""Ways to schedule, held against each other: the same trace, faster and faster, under each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from pydantic import BaseModel, Field

from model_store.manifest import Manifest
from service.simulation.known import KnownImages
from service.simulation.measured import Measured
from service.simulation.policies import NOT_MERGING, POLICIES
from service.simulation.result import Outcome
from service.simulation.serve import Rules, Service, closed_loop, open_loop
from service.simulation.traffic import Arrival, reshuffled, scaled

LOADS = (0.5, 0.8, 1.0, 1.2)
"""Offered loads, shares of the capacity under the rules that are served."""

CONNECTIONS = 32
"""Users of the closed loop that gives the capacity."""

SERVED = Rules()

VARIANTS: Mapping[str, Mapping[str, Rules]] = {
    "which span first": {name: Rules(pick=one.pick, queues=one.queues) for name, one in POLICIES.items()},
    "longest wait for company": {
        "1 ms (served)": SERVED,
        **{f"{wait * 1000:g} ms": Rules(max_wait_s=wait) for wait in (0.0, 0.005)},
    },
    "survivors of different batches": {
        "merged (served)": SERVED,
        "apart": Rules(pick=NOT_MERGING.pick, queues=NOT_MERGING.queues),
    },
    "images per launch, at most": {
        "16 (served)": SERVED,
        **{str(most): Rules(max_batch=most) for most in (8, 32)},
    },
}
"""By what is varied, then by its value; the first of each is what is served."""


class Figures(BaseModel, frozen=True):
    """One variant under one load: medians over the repetitions, and their range where it matters."""

    varied: str
    value: str
    load: float = Field(description="Offered, share of the capacity.")
    rate: float = Field(description="Requests a second.")
    throughput: float
    p50_ms: float
    p99_ms: float
    p99_range_ms: tuple[float, float]
    met: float = Field(description="Share of the requests with a deadline that met it.")
    met_range: tuple[float, float]
    lost: float = Field(description="Share of all requests without an answer.")
    executed_over_charged: float
    mean_batches: dict[str, float] = Field(description="Images a launch, by span.")


class Sweep(BaseModel, frozen=True):
    """All variants under all loads."""

    model: str
    machine: str
    capacity: float = Field(description="Answers a second of 32 users who never pause, as served.")
    requests: int
    repetitions: int
    rows: tuple[Figures, ...]


def sweep(
    manifest: Manifest,
    known: KnownImages,
    measured: Measured,
    trace: Sequence[Arrival],
    loads: Sequence[float] = LOADS,
    repetitions: int = 3,
    variants: Mapping[str, Mapping[str, Rules]] = VARIANTS,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Live through ``trace`` under each variant and load.

    Args:
        manifest: Of the model.
        known: What it says of the trace's rows.
        measured: Launch times and costs.
        trace: Requests; their pattern is kept, their rate is not.
        loads: Shares of the capacity.
        repetitions: Of each, with what is asked in another order.
        variants: As ``VARIANTS``.
        report: Told the simulations done, and of how many.
    """

    def service(rules: Rules) -> Service:
        return Service(manifest, known, measured.times, measured.costs, rules)

    capacity = closed_loop(service(SERVED), trace, CONNECTIONS).throughput
    different = {rules for values in variants.values() for rules in values.values()}
    traces = [reshuffled(trace, seed) for seed in range(repetitions)]
    found: dict[tuple[Rules, float], list[Outcome]] = {}
    for rules in sorted(different, key=repr):
        for load in loads:
            arrivals = (scaled(one, load * capacity) for one in traces)
            found[rules, load] = [open_loop(service(rules), one) for one in arrivals]
            report(len(found), len(different) * len(loads))
    rows = tuple(
        _figures(varied, value, load, load * capacity, found[rules, load])
        for varied, values in variants.items()
        for value, rules in values.items()
        for load in loads
    )
    return Sweep(
        model=measured.times.model,
        machine=measured.times.machine,
        capacity=capacity,
        requests=len(trace),
        repetitions=repetitions,
        rows=rows,
    )


def _figures(varied: str, value: str, load: float, rate: float, outcomes: Sequence[Outcome]) -> Figures:
    p99_ms = [1000 * outcome.latency_s(0.99) for outcome in outcomes]
    met = [outcome.met for outcome in outcomes]
    batches = [outcome.mean_batches() for outcome in outcomes]
    spans = sorted({span for one in batches for span in one})
    return Figures(
        varied=varied,
        value=value,
        load=load,
        rate=rate,
        throughput=median(outcome.throughput for outcome in outcomes),
        p50_ms=median(1000 * outcome.latency_s(0.5) for outcome in outcomes),
        p99_ms=median(p99_ms),
        p99_range_ms=(min(p99_ms), max(p99_ms)),
        met=median(met),
        met_range=(min(met), max(met)),
        lost=median(1 - len(outcome.answered) / len(outcome.served) for outcome in outcomes),
        executed_over_charged=median(outcome.executed_over_charged for outcome in outcomes),
        mean_batches={str(span): median(one[span] for one in batches if span in one) for span in spans},
    )
