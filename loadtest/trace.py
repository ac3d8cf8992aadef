"""Traffic as a file: mixed requests with bursts, recorded as they were sent, and sent again the same way.

    python -m loadtest.trace --data DIR --part train --rows 45000:50000 --rate 600 --record mixed.jsonl
    python -m loadtest.trace --data DIR --part train --rows 45000:50000 --replay mixed.jsonl --rate 900

A line of a trace: arrival_s since its beginning, row among --rows, and budget, limit, deadline_ms where the
request named one. The simulation of the service (``service.simulation``) lives through the same files.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from loadtest.errors import LoadTestError, run_script
from loadtest.generator import Run, Sample, Sender, open_session
from loadtest.images import Picture, read_rows
from loadtest.measures import percentiles_ms
from loadtest.metrics_page import Page, read_page
from loadtest.replay import command_line

MIX: tuple[Mapping[str, float], ...] = (
    {},
    {"budget": 16e6},
    {"budget": 20e6},
    {"budget": 25e6},
    {"budget": 25e6},
    {"limit": 40e6},
    {"budget": 20e6, "limit": 30e6},
    {"budget": 25e6, "deadline_ms": 20.0},
    {"deadline_ms": 50.0},
    {"budget": 25e6, "deadline_ms": 100.0},
)
"""What users ask for, each as often as the others."""

BURST_S, EVERY_S, BURST = 0.25, 2.0, 3.0
"""For ``BURST_S`` of every ``EVERY_S`` seconds there is ``BURST`` times as much traffic as otherwise."""

ROUNDED = 6
"""Decimals of arrivals, microseconds."""


@dataclass(frozen=True)
class Arrival:
    """One request with one image: a line of a trace, see the head of this file."""

    arrival_s: float
    row: int
    budget: float | None = None
    limit: float | None = None
    deadline_ms: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What it asks for."""
        asked = {"X-FLOP-Budget": self.budget, "X-FLOP-Limit": self.limit, "X-Deadline-Ms": self.deadline_ms}
        return {name: f"{value:.0f}" for name, value in asked.items() if value is not None}


def mixed(rate: float, seconds: float, rows: int, seed: int) -> list[Arrival]:
    """Requests of ``MIX`` at random times with bursts, ``rate`` a second on average."""
    chance = random.Random(seed)
    calm = rate / (1 + (BURST - 1) * BURST_S / EVERY_S)
    arrivals, time_s = [], 0.0
    while (time_s := time_s + chance.expovariate(calm * BURST)) < seconds:
        if time_s % EVERY_S >= BURST_S and chance.random() > 1 / BURST:
            continue  # thinned outside of bursts
        arrivals.append(Arrival(round(time_s, ROUNDED), chance.randrange(rows), **chance.choice(MIX)))
    return arrivals


def read_trace(path: Path) -> list[Arrival]:
    """Arrivals by time.

    Raises:
        LoadTestError: A line is none, or there are fewer than two.
    """
    known = {field.name for field in fields(Arrival)}
    arrivals = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or set(entry) - known:
                raise ValueError(f"has to hold numbers called {', '.join(sorted(known))}")
            arrivals.append(Arrival(**entry))
        except (ValueError, TypeError) as error:
            raise LoadTestError(f"{path}, line {number}: {error}") from error
    if len(arrivals) < 2:
        raise LoadTestError(f"{path}: a trace has at least two lines")
    return sorted(arrivals, key=lambda arrival: arrival.arrival_s)


def write_trace(arrivals: Sequence[Arrival], path: Path) -> None:
    """One line each, without what was not asked."""
    lines = ({name: value for name, value in asdict(one).items() if value is not None} for one in arrivals)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def scaled(arrivals: Sequence[Arrival], rate: float) -> list[Arrival]:
    """The same requests in the same pattern, ``rate`` a second on average."""
    first_s, seconds = arrivals[0].arrival_s, arrivals[-1].arrival_s - arrivals[0].arrival_s
    if seconds <= 0:
        raise LoadTestError("all requests of the trace come at once: it has no rate")
    factor = len(arrivals) / rate / seconds
    return [Arrival(**{**asdict(one), "arrival_s": (one.arrival_s - first_s) * factor}) for one in arrivals]


async def send(
    session: aiohttp.ClientSession, arrivals: Sequence[Arrival], pictures: Sequence[Picture]
) -> tuple[Run, list[Sample]]:
    """Send each request when it is due; gives them in the order of the trace, too."""
    run = Run()
    tasks: list[asyncio.Task[Sample]] = []
    async with run.window(arrivals[-1].arrival_s) as end_s:
        started_s = end_s - arrivals[-1].arrival_s
        for arrival in arrivals:
            due_s = started_s + arrival.arrival_s
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            sender = Sender(session, [pictures[arrival.row]], arrival.headers)
            tasks.append(asyncio.create_task(sender.send(run, due_s)))
        samples = await asyncio.gather(*tasks)
    return run, list(samples)


def summary(run: Run, sent: Sequence[tuple[Arrival, Sample]], page: Page) -> dict[str, Any]:
    """The figures that a simulation has, too; ``page`` is what the service's metrics grew by."""
    answers = [sample for _, sample in sent if sample.prediction]
    urgent = [(one.deadline_ms, sample) for one, sample in sent if one.deadline_ms is not None]
    met = sum(bool(sample.prediction) and sample.seconds * 1000 <= limit for limit, sample in urgent)
    charged, executed = (page.total("exitramp_flops_total", kind=kind) for kind in ("charged", "executed"))
    return {
        "sent": len(sent),
        "seconds": round(run.seconds, 3),
        "statuses": dict(Counter(sample.status for _, sample in sent)),
        "throughput": sum(bool(sample.prediction) for sample in run.in_time) / run.seconds,
        "latency_ms": percentiles_ms(sample.seconds for sample in answers),
        "met": met / len(urgent) if urgent else None,
        "accuracy": sum(bool(sample.right) for sample in answers) / len(answers) if answers else None,
        "mean_batches": dict(_mean_batches(page)),
        "executed_over_charged": executed / charged if charged else None,
        "server_cpu_ms": 1000 * page.total("process_cpu_seconds_total") / len(sent),
        "client_cpu_ms": 1000 * run.cpu_s / len(sent),
        "generator_behind_ms": percentiles_ms(sample.lag_s for _, sample in sent),
    }


def _mean_batches(page: Page) -> Iterator[tuple[str, float]]:
    for stage, launches in sorted(page.by("stage", "exitramp_batch_size_count").items()):
        yield stage, page.total("exitramp_batch_size_sum", stage=stage) / launches


async def measure(options: argparse.Namespace, arrivals: Sequence[Arrival]) -> dict[str, Any]:
    """Send ``arrivals``; with ``options.record`` keep when each really left."""
    first, last = options.rows
    rows = read_rows(options.data, options.part)[first:last]
    pictures = [Picture(content, str(label)) for content, label in rows]
    if max(arrival.row for arrival in arrivals) >= len(pictures):
        raise LoadTestError(f"the trace asks for more rows than the {len(pictures)} of --rows")
    async with open_session(options.url, options.connections) as session:
        before = await read_page(session)
        run, samples = await send(session, arrivals, pictures)
        page = (await read_page(session)).since(before)
    sent = list(zip(arrivals, samples, strict=True))
    if options.record:
        started_s = run.end_s - run.seconds
        left = [
            Arrival(**{**asdict(one), "arrival_s": round(max(0.0, sample.sent_s - started_s), ROUNDED)})
            for one, sample in sent
            if sample.sent_s
        ]
        write_trace(left, options.record)
    return summary(run, sent, page)


def row_range(text: str) -> tuple[int, int | None]:
    """``FIRST:LAST``, the last one exclusive, either left out."""
    first, colon, last = text.partition(":")
    if not colon:
        raise ValueError(text)
    return int(first or 0), int(last) if last else None


def main() -> int:
    """Parse the command line, send, report."""
    parser = command_line(__doc__)
    parser.set_defaults(connections=1000)
    parser.add_argument(
        "--rows", type=row_range, default=(0, None), help="FIRST:LAST of PART; all without it"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", type=Path, help="send mixed traffic and write what was sent there")
    what.add_argument("--replay", type=Path, help="send this trace")
    parser.add_argument("--rate", type=float, help="requests a second on average; a trace's own without it")
    parser.add_argument("--seconds", type=float, default=20, help="of mixed traffic (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of mixed traffic (%(default)s)")
    options = parser.parse_args()
    if options.record:
        if options.rate is None:
            parser.error("--record needs a --rate")
        first, last = options.rows
        count = len(read_rows(options.data, options.part)[first:last])
        arrivals = mixed(options.rate, options.seconds, count, options.seed)
    else:
        arrivals = read_trace(options.replay)
        arrivals = scaled(arrivals, options.rate) if options.rate else arrivals
    sys.stdout.write(json.dumps(uvloop.run(measure(options, arrivals))) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
