"""What a sweep found, as numbers; README.md beside this file explains the JSON."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from os import cpu_count, getloadavg
from pathlib import Path
from typing import Any

from loadtest.generator import Run
from loadtest.measures import percentiles_ms, wilson_interval
from loadtest.metrics_page import Page

SCHEMA = "exitramp-bench/2"
"""Version of the JSON; it changes when a field changes its meaning or goes."""

NOTICEABLE = 0.1
"""Share of a latency from which on the client's own lag is no longer nothing."""

BUSY_CORES = 0.9
"""Of the one core that the client can use: more, and it may be what limits the throughput."""


@dataclass(frozen=True)
class Row:
    """One measurement. Times are milliseconds, FLOPs multiply-adds per image, rates per second."""

    loop: str  # closed or open
    budget: str  # as it was sent; none: no header
    load: float | None  # offered, as a share of the budget's capacity
    rate: float | None  # offered; the closed loop has none
    seconds: float  # in which requests were sent; throughput, cores and card are of this time
    drain_s: float  # from then to the last answer
    sent: int
    answered: int
    statuses: dict[str, int]
    throughput: float  # of answers with a prediction
    latency_ms: dict[str, float]
    failure_ms: dict[str, float]  # latency of everything that is no prediction
    lag_ms: dict[str, float]
    labelled: int
    distinct: int  # different images among the labelled ones
    accuracy: float | None
    accuracy_95: tuple[float, float] | None  # as of the different images: a repeated one says nothing new
    exits: dict[str, float]
    degraded: float | None
    charged_flops: float | None
    executed_flops: float | None
    allowed_flops: float | None
    server_cores: float | None
    server_mib: float | None
    client_cores: float
    card_percent: float | None
    client_bound: bool  # the client's own delay or processor use is in the figures
    mismatches: list[str]  # between the answers and the server's metrics

    @property
    def errors(self) -> float:
        """Share of the requests that got no prediction."""
        return (self.sent - self.answered) / self.sent


@dataclass(frozen=True)
class Overhead:
    """The generator against a server that does nothing."""

    rate: float | None  # None: closed loop
    sent: int
    throughput: float
    latency_ms: dict[str, float]
    lag_ms: dict[str, float]
    client_cores: float
    cpu_ms: float  # of the client for a request


@dataclass
class Report:
    """A sweep, whole or as far as it came."""

    command: str
    url: str
    plan: dict[str, Any]
    images: dict[str, Any]
    schema: str = SCHEMA
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seconds: float = 0.0
    incomplete: str | None = None
    client: dict[str, Any] = field(default_factory=lambda: machine())
    models: list[dict[str, Any]] = field(default_factory=list)
    model: str = ""  # that answered the first request
    capacity: dict[str, float] = field(default_factory=dict)
    overhead: list[Overhead] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def budgets(self) -> list[str]:
        """Those with rows, in the order asked."""
        return list(dict.fromkeys(row.budget for row in self.rows))

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dictionaries, numbers and texts."""
        return asdict(self)


def machine() -> dict[str, Any]:
    """What the client runs on."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": round(getloadavg()[0], 2),  # before the sweep: what else goes on there
    }


@dataclass
class Account:
    """What the service says about itself around a run, and how busy a graphics card was.

    Attributes:
        before: Its metrics before the first request.
        at_end: When the last one had been sent.
        after: When the last one had been answered.
        seconds: From ``before`` to ``at_end``.
        card: Use in that time, percent.
    """

    before: Page
    at_end: Page
    after: Page
    seconds: float
    card: list[float]

    @property
    def grown(self) -> Page:
        """Counters of the run alone."""
        return self.after.since(self.before)

    @property
    def cores(self) -> float | None:
        """Processor time of the service over time, while requests were sent; ``None`` if it does not say."""
        spent_s = self.at_end.since(self.before).total("process_cpu_seconds_total")
        return spent_s / self.seconds or None


def make_row(budget: str, load: float | None, rate: float | None, run: Run, account: Account) -> Row:
    """The figures of one run."""
    answered = [sample for sample in run.samples if sample.prediction]
    judged = [sample for sample in answered if sample.right is not None]
    distinct = len({sample.picture for sample in judged})
    accuracy = _share(sum(bool(sample.right) for sample in judged), len(judged))
    latency_ms = percentiles_ms(sample.seconds for sample in answered)
    lag_ms = percentiles_ms(sample.lag_s for sample in run.samples)
    client_cores = run.cpu_s / run.seconds
    exits = Counter(str(sample.prediction["exit"]) for sample in answered)
    flops = sum(sample.prediction["flops"] for sample in answered)
    return Row(
        loop="closed" if rate is None else "open",
        budget=budget,
        load=load,
        rate=rate,
        seconds=run.seconds,
        drain_s=run.drain_s,
        sent=len(run.samples),
        answered=len(answered),
        statuses=dict(sorted(Counter(sample.status for sample in run.samples).items())),
        throughput=sum(bool(sample.prediction) for sample in run.in_time) / run.seconds,
        latency_ms=latency_ms,
        failure_ms=percentiles_ms(sample.seconds for sample in run.samples if not sample.prediction),
        lag_ms=lag_ms,
        labelled=len(judged),
        distinct=distinct,
        accuracy=accuracy,
        accuracy_95=None if accuracy is None else wilson_interval(accuracy, distinct),
        exits={number: exits[number] / len(answered) for number in sorted(exits, key=int)},
        degraded=_share(sum(sample.prediction["degraded"] for sample in answered), len(answered)),
        charged_flops=_share(flops, len(answered)),
        executed_flops=_share(account.grown.total("exitramp_flops_total", kind="executed"), len(answered)),
        allowed_flops=_share(account.grown.total("exitramp_budget_flops_total"), len(answered)),
        server_cores=account.cores,
        server_mib=account.after.total("process_resident_memory_bytes") / 2**20 or None,
        client_cores=client_cores,
        card_percent=sum(account.card) / len(account.card) if account.card else None,
        client_bound=client_cores > BUSY_CORES or _noticeable(lag_ms, latency_ms),
        mismatches=mismatches(run, account.grown),
    )


def make_overhead(rate: float | None, run: Run) -> Overhead:
    """The figures of one run against the server that does nothing."""
    return Overhead(
        rate=rate,
        sent=len(run.samples),
        throughput=len(run.in_time) / run.seconds,
        latency_ms=percentiles_ms(sample.seconds for sample in run.samples),
        lag_ms=percentiles_ms(sample.lag_s for sample in run.samples),
        client_cores=run.cpu_s / run.seconds,
        cpu_ms=1000 * run.cpu_s / len(run.samples),
    )


def mismatches(run: Run, grown: Page) -> list[str]:
    """Where the service counted something else than came back."""
    answered = [sample for sample in run.samples if sample.prediction]
    pairs: list[tuple[str, Mapping[str, int], Mapping[str, int]]] = [
        (
            "status",
            Counter(sample.status for sample in run.samples if sample.status.isdecimal()),
            grown.by("code", "exitramp_requests_total", route="/classify"),
        ),
        (
            "exit",
            Counter(str(sample.prediction["exit"]) for sample in answered),
            grown.by("exit", "exitramp_images_total"),
        ),
        (
            "FLOPs",
            {"charged": sum(sample.prediction["flops"] for sample in answered)},
            grown.by("kind", "exitramp_flops_total", kind="charged"),
        ),
    ]
    return [
        f"{what} {name}: {here.get(name, 0)} in the answers, {there.get(name, 0)} in the metrics"
        for what, here, there in pairs
        for name in sorted({*here, *there})
        if here.get(name, 0) != there.get(name, 0)
    ]


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _noticeable(lag_ms: Mapping[str, float], latency_ms: Mapping[str, float]) -> bool:
    return any(lag_ms[name] > NOTICEABLE * latency_ms[name] for name in ("p50", "p99") if name in latency_ms)
