"""The service in a process of its own under a closed loop, as client and service saw it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from loadtest.checkout import running
from loadtest.generator import Run, Sender, closed_loop, open_session
from loadtest.images import Picture
from loadtest.metrics_page import Page, read_page
from service.profiling.account import Launches, Observed

WARM_UP_S = 1.0
"""Load before each measurement, seconds."""

SETTLE_S = 0.3
"""Longest time from an answer to its place in the metrics, seconds."""

STATISTICS = {"waited_s": "queue", "gather_s": "compute_input", "infer_s": "compute_infer"}
STATISTICS["rows_s"] = "compute_output"

SUMS = {
    "request_s": "exitramp_request_seconds_sum",
    "decode_s": "exitramp_decode_seconds_sum",
    "queue_s": "exitramp_queue_seconds_sum",
    "server_cpu_s": "process_cpu_seconds_total",
}


@dataclass(frozen=True)
class Load:
    """One measurement.

    Attributes:
        name: For people.
        headers: Of every request.
        connections: Users who send one request after the other.
        seconds: How long.
    """

    name: str
    headers: Mapping[str, str]
    connections: int
    seconds: float


async def observe_all(
    settings: Mapping[str, str], model: str, files: Sequence[bytes], loads: Sequence[Load]
) -> list[Observed]:
    """Start the service with ``settings``, by the names of their variables, and measure ``loads``.

    Raises:
        LoadTestError: It does not start, or has no metrics.
    """
    pictures = [Picture(content) for content in files]
    with running(settings) as service:
        async with open_session(service.url, max(load.connections for load in loads)) as session:
            return [await _observe(session, model, pictures, load) for load in loads]


async def _observe(
    session: aiohttp.ClientSession, model: str, pictures: Sequence[Picture], load: Load
) -> Observed:
    sender = Sender(session, pictures, load.headers)
    await closed_loop(sender, load.connections, WARM_UP_S)
    await asyncio.sleep(SETTLE_S)
    page, counted = await read_page(session), await _statistics(session, model)
    run = await closed_loop(sender, load.connections, load.seconds)
    await asyncio.sleep(SETTLE_S)
    grown = (await read_page(session)).since(page)
    after = await _statistics(session, model)
    return _observed(load, run, grown, {name: after[name] - counted[name] for name in counted})


async def _statistics(session: aiohttp.ClientSession, model: str) -> dict[str, float]:
    """Sums over all answered images, seconds."""
    async with session.get(f"v2/models/{model}/stats") as answer:
        answer.raise_for_status()
        told: dict[str, Any] = (await answer.json())["model_stats"][0]["inference_stats"]
    return {name: told[field]["ns"] / 1e9 for name, field in STATISTICS.items()}


def _observed(load: Load, run: Run, grown: Page, statistics: Mapping[str, float]) -> Observed:
    route = {"exitramp_request_seconds_sum": {"route": "/classify"}}
    sums = {name: grown.total(metric, **route.get(metric, {})) for name, metric in SUMS.items()}
    stages = grown.by("stage", "exitramp_stage_seconds_count")
    answered = [sample for sample in run.samples if sample.prediction]
    return Observed(
        name=load.name,
        connections=load.connections,
        throughput=sum(bool(sample.prediction) for sample in run.in_time) / run.seconds,
        failed=len(run.samples) - len(answered),
        requests=len(run.samples),
        latency_s=sum(sample.seconds for sample in run.samples),
        client_cpu_s=run.cpu_s,
        spans={
            stage: Launches(
                launches=count,
                images=grown.total("exitramp_batch_size_sum", stage=stage),
                seconds=grown.total("exitramp_stage_seconds_sum", stage=stage),
            )
            for stage, count in stages.items()
        },
        exits=dict(grown.by("exit", "exitramp_images_total")),
        **sums,
        **statistics,
    )
