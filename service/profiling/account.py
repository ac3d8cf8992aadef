"""The budget of a request: where its time went, by the service's own account of a measured run.

Pure: figures in, figures out.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from service.profiling.parts import Part
from service.profiling.span_times import SpanTimes, parse_span

TARGET = 0.7
"""Share of the limit that is aimed at."""


class Launches(BaseModel, frozen=True):
    """All launches of one span in a run."""

    launches: float
    images: float
    seconds: float


class Observed(BaseModel, frozen=True):
    """A closed loop as client and service saw it. Sums are over its requests of one image each, seconds.

    The client's figures are of the client; all others are what the service added to its metrics and to the
    statistics of the model meanwhile.
    """

    name: str
    connections: int
    throughput: float = Field(description="Answers a second.")
    failed: int = Field(description="Requests without a prediction.")
    requests: int = Field(gt=0)
    latency_s: float = Field(description="Sum of what the client waited.")
    client_cpu_s: float
    server_cpu_s: float
    request_s: float = Field(description="Within the application.")
    decode_s: float
    waited_s: float = Field(description="From submission to answer, without launches.")
    queue_s: float
    gather_s: float
    infer_s: float
    rows_s: float
    spans: dict[str, Launches]
    exits: dict[str, int]


class Line(BaseModel, frozen=True):
    """One part of a request's time, mean microseconds."""

    name: str
    us: float
    source: str


def budget_of(run: Observed, checks: Part, body: Part) -> list[Line]:
    """The parts of a request's time; they sum to what the client waited.

    Args:
        run: The measured run.
        checks: The header checks, alone.
        body: The JSON, alone.
    """
    submitted_s = run.waited_s + run.gather_s + run.infer_s + run.rows_s
    each_us = 1e6 / run.requests
    own_us = (run.request_s - run.decode_s - submitted_s) * each_us
    sums = {
        "client, sockets, HTTP parser": (run.latency_s - run.request_s, "client - request_seconds"),
        "decode": (run.decode_s, "decode_seconds"),
        "queues": (run.queue_s, "queue_seconds"),
        "gather": (run.gather_s, "statistics, compute_input"),
        "stages, exits.read": (run.infer_s, "statistics, compute_infer"),
        "rows": (run.rows_s, "statistics, compute_output"),
        "way back to the event loop": (run.waited_s - run.queue_s, "statistics, queue - queue_seconds"),
    }
    lines = [
        Line(name=name, us=seconds / run.requests * 1e6, source=source)
        for name, (seconds, source) in sums.items()
    ]
    rest_us = own_us - checks.median_us - body.median_us
    lines[1:1] = [Line(name="header checks", us=checks.median_us, source="alone")]
    lines += [
        Line(name="JSON", us=body.median_us, source="alone"),
        Line(name="rest: admission, plan, body, metrics, writing", us=rest_us, source="what is left"),
    ]
    return lines


class Throughput(BaseModel, frozen=True):
    """What was served against what could be; microseconds for each answered image.

    Attributes of a limit: the launches as large as they may be, on the threads that they have; and all
    processor time together on all cores.
    """

    served: float = Field(description="Answers a second.")
    device_us: float = Field(description="In launches, of the sizes that they had.")
    offline_us: float = Field(description="In launches of the same spans, as large as they may be.")
    around_us: float = Field(description="Processor time of HTTP, decoding and engine without the network.")
    client_us: float = Field(description="Processor time of the client, on the same cores.")
    offline: float = Field(description="Images a second of the network alone.")
    limit: float = Field(description="Answers a second with all that is around it.")
    limit_with_client: float = Field(description="And with the client on the same cores.")

    @property
    def share(self) -> float:
        """Served, of the limit that includes the client."""
        return self.served / self.limit_with_client


def throughput_of(
    run: Observed, times: SpanTimes, idle: Observed, max_batch: int, threads: int, cores: int
) -> Throughput:
    """Hold a run against the limit.

    Args:
        run: The measured run.
        times: Of the spans that images went through; others, re-checks in the background, are not counted.
        idle: A run of the same requests against a service that computes nothing.
        max_batch: Images of a launch, at most.
        threads: Processor threads of a launch.
        cores: Of the machine.
    """
    offline_s = sum(
        done.images / run.requests * times.seconds(parse_span(name), max_batch) / max_batch
        for name, done in run.spans.items()
        if name in times.spans
    )
    around_s, client_s = idle.server_cpu_s / idle.requests, run.client_cpu_s / run.requests

    def most(other_s: float) -> float:
        return min(1 / offline_s, cores / (threads * offline_s + other_s))

    return Throughput(
        served=run.throughput,
        device_us=sum(done.seconds for done in run.spans.values()) / run.requests * 1e6,
        offline_us=offline_s * 1e6,
        around_us=around_s * 1e6,
        client_us=client_s * 1e6,
        offline=1 / offline_s,
        limit=most(around_s),
        limit_with_client=most(around_s + client_s),
    )


def total_us(lines: Sequence[Line]) -> float:
    """The sum of all parts."""
    return sum(line.us for line in lines)
