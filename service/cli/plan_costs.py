"""Costs of this machine for ``exitramp plan``: launches alone, then the service under a client's load."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from loadtest.checkout import running
from loadtest.generator import Sender, closed_loop, open_session
from loadtest.images import Picture
from loadtest.metrics_page import read_page
from model_store.nets.staged import Span
from service.engine.executors import triangular_sizes
from service.engine.loaded import LoadedModel
from service.profiling.span_times import (
    Launcher,
    SpanTimes,
    measure_spans,
    parse_span,
    random_images,
)
from service.settings import Settings
from service.simulation.costs import Costs

CONNECTIONS, WARM_UP_S, SECONDS = 32, 1.0, 3.0
"""Of the load under which a request's Python is measured: fewer requests at a time cost more each."""

ROUNDS = 7
"""Launches of each span and batch size."""

SETTLE_S = 0.3
"""Longest time from an answer to its place in the metrics, seconds."""

RECEIVING = 0.6
"""Share of the event loop's part that is done before the engine has the image."""


class Busy(NamedTuple):
    """What a closed loop cost: means of each request.

    Attributes:
        server_s: Processor time of the server, launches included, seconds.
        client_s: Of the client.
        launches: By stage.
        images: In them.
        seconds: That they took.
    """

    server_s: float
    client_s: float
    launches: dict[str, float]
    images: dict[str, float]
    seconds: dict[str, float]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_times(
    model: LoadedModel, settings: Settings, budgets: Sequence[float | None], rounds: int = ROUNDS
) -> SpanTimes:
    """Launches of the spans that ``budgets`` use, and of all others that are served."""
    plans = [model.plan(budget, None, True) for budget in budgets]
    spans = list(dict.fromkeys([*(span for plan in plans for span in plan.spans()), *model.served_spans()]))
    return measure_spans(model, spans, triangular_sizes(settings.max_batch), rounds)


def measure_costs(
    model: LoadedModel, times: SpanTimes, budget: float | None, files: Sequence[bytes], store: Path
) -> Costs:
    """Python around the launches, by the processor time of a loaded service without its launches.

    Args:
        model: Whose worker is timed between launches.
        times: Of its launches.
        budget: Of the requests that are sent.
        files: Images that are sent in turn.
        store: From which the service loads the model.

    Raises:
        LoadTestError: The service does not start.
    """
    launch_s, image_s = _after_launches(model, next(iter(model.plan(budget, None, True).spans())))
    environment = {"EXITRAMP_MODEL_STORE": str(store), "EXITRAMP_MODELS": f'["{model.key}"]'}
    with running({**environment, "EXITRAMP_BROWNOUT": "false", "EXITRAMP_RECHECK_SHARE": "0"}) as service:
        busy = uvloop.run(_observe(service.url, budget, files))
    return costs_of(busy, times, launch_s, image_s, cores())


def costs_of(busy: Busy, times: SpanTimes, launch_s: float, image_s: float, machine_cores: int) -> Costs:
    """What is left of the server's processor time without launches and what follows them.

    Args:
        busy: The measured load.
        times: Of the launches in it.
        launch_s: Python after each launch.
        image_s: And for each image in it.
        machine_cores: Processors of the machine.
    """
    known = [stage for stage, launches in busy.launches.items() if stage in times.spans and launches]
    python_s = sum(busy.launches[stage] * launch_s + busy.images[stage] * image_s for stage in known)
    alone_s = 0.0
    for stage in known:
        span, size = parse_span(stage), busy.images[stage] / busy.launches[stage]
        low, high = times.seconds(span, int(size)), times.seconds(span, int(size) + 1)
        alone_s += busy.launches[stage] * (low + (size - int(size)) * (high - low))
    served_s = max(alone_s, sum(busy.seconds[stage] for stage in known))
    # What launches take longer among others is partly waiting, which is no processor time.
    request_s = max(busy.server_s - alone_s * times.threads - python_s, 1e-6)
    launches = sum(busy.launches[stage] for stage in known)
    return Costs(
        receive_s=RECEIVING * request_s,
        respond_s=(1 - RECEIVING) * request_s,
        among_s=(served_s - alone_s) / launches if launches else 0.0,
        launch_s=launch_s,
        image_s=image_s,
        client_s=busy.client_s,
        cores=machine_cores,
        threads=times.threads,
    )


def _after_launches(model: LoadedModel, first: Span) -> tuple[float, float]:
    """Python of the device's thread after a launch, and for each image in it, by two sizes of batches."""
    few, many = 1, 32
    images = random_images(model, many)
    launcher = Launcher(model, images)
    found = {}
    try:
        for size in (few, many):
            seconds = []
            for _ in range(20):
                started_s = time.perf_counter()
                launch_s = launcher.launch(first, size).times.total_s
                seconds.append(time.perf_counter() - started_s - launch_s)
            found[size] = statistics.median(seconds)
    finally:
        launcher.close()
    image_s = max(0.0, (found[many] - found[few]) / (many - few))
    return max(0.0, found[few] - image_s), image_s


async def _observe(url: str, budget: float | None, files: Sequence[bytes]) -> Busy:
    """A closed loop against the service, by the client's and its own account."""
    headers = {} if budget is None else {"X-FLOP-Budget": f"{budget:.0f}"}
    async with open_session(url, CONNECTIONS) as session:
        sender = Sender(session, [Picture(file) for file in files], headers)
        await closed_loop(sender, CONNECTIONS, WARM_UP_S)
        await asyncio.sleep(SETTLE_S)
        before = await read_page(session)
        run = await closed_loop(sender, CONNECTIONS, SECONDS)
        await asyncio.sleep(SETTLE_S)
        page = (await read_page(session)).since(before)
    count = len(run.samples)
    stages = list(page.by("stage", "exitramp_batch_size_count"))
    launches, images, seconds = (
        {stage: page.total(name, stage=stage) / count for stage in stages}
        for name in ("exitramp_batch_size_count", "exitramp_batch_size_sum", "exitramp_stage_seconds_sum")
    )
    return Busy(page.total("process_cpu_seconds_total") / count, run.cpu_s / count, launches, images, seconds)
