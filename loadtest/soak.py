"""Load for a long time: does memory grow, do connections or threads leak, do answers get slower?

    python -m loadtest.soak --url http://127.0.0.1:8000 --pid PID --seconds 600 --out soak
    python -m loadtest.soak … --idle-connections 1000      # the same with 1,000 open connections
    python -m loadtest.soak … --users 8 --answers answers.json   # 8 users, and every answer is checked

Requests at random times, at a share of the capacity that is measured first, under several budgets in turn. In
steps of 10 s the server's memory, descriptors and threads are read. Writes soak.json and soak.png into --out,
prints one JSON line; the exit code is 1 if memory grew by more than 32 MiB after the warm-up, or if anything
but an answer came, or another one than is known to be right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from statistics import mean
from typing import Any

import aiohttp
import uvloop

from loadtest.errors import LoadTestError, run_script
from loadtest.generator import Run, Sender, closed_loop, open_loop, open_session, paced_loop
from loadtest.idle import idle_connections
from loadtest.images import Picture, read_pictures, synthetic_pictures
from loadtest.measures import percentiles_ms
from loadtest.report import machine

BUDGETS: tuple[dict[str, str], ...] = (
    {"X-FLOP-Budget": "16M"},
    {"X-FLOP-Budget": "25M"},
    {"X-FLOP-Budget": "40M"},
    {"X-FLOP-Limit": "30M"},
    {"X-FLOP-Limit": "100M"},
    {"X-FLOP-Budget": "25M", "X-Deadline-Ms": "2000"},
    {},
)
"""Headers of the requests, in turn."""

STEP_S = 10.0
GROWTH_MIB = 32.0
"""Growth of memory after the warm-up that is accepted."""

CONNECTIONS = 1000
"""At most, as in an open loop nobody shall wait for one."""

MIB = 2**20


Answers = Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]]
"""Class index and FLOPs at each exit that is consulted, by SHA-256 of the image, ``kind`` and exit."""


def kind(headers: Mapping[str, str]) -> str:
    """What a table of answers calls requests with ``headers``."""
    return ", ".join(f"{name}: {value}" for name, value in headers.items())


class Mixed:
    """Sends under several budgets in turn."""

    def __init__(
        self, session: aiohttp.ClientSession, pictures: Sequence[Picture], answers: Answers | None = None
    ) -> None:
        """Send ``pictures`` over ``session``; with ``answers`` any other answer has the status "wrong"."""
        self._senders = cycle([(kind(headers), Sender(session, pictures, headers)) for headers in BUDGETS])
        self._answers = answers

    async def send(self, run: Run, due_s: float) -> None:
        """Send one picture and enter what became of it."""
        asked, sender = next(self._senders)
        sample = await sender.send(run, due_s)
        if self._answers is None or sample.picture is None or not sample.prediction:
            return
        said = sample.prediction
        exits = self._answers[hashlib.sha256(sample.picture.content).hexdigest()][asked]
        if exits.get(str(said["exit"])) != [said["index"], said["flops"]]:
            sample.status = "wrong"


@dataclass(frozen=True)
class Step:
    """What was seen in one step.

    Attributes:
        seconds: From the beginning to its end.
        sent: Requests.
        statuses: Of them: HTTP's, or the name of the client's error.
        latency_ms: Percentiles of the answers, from when each was due.
        lag_ms: By how much requests left late.
        resident_mib: Memory of the server at its end.
        descriptors: Open files and connections of the server.
        threads: Of the server.
    """

    seconds: float
    sent: int
    statuses: dict[str, int]
    latency_ms: dict[str, float]
    lag_ms: dict[str, float]
    resident_mib: float
    descriptors: int
    threads: int


def look(pids: Sequence[int]) -> tuple[float, int, int]:
    """Resident memory, MiB, descriptors and threads of the server's processes together.

    Raises:
        LoadTestError: One has ended.
    """
    resident_kib = threads = descriptors = 0
    for pid in pids:
        place = Path("/proc") / str(pid)
        try:
            fields = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            resident_kib += int(fields["VmRSS"].split()[0])
            threads += int(fields["Threads"])
            descriptors += len(list((place / "fd").iterdir()))
        except (OSError, KeyError) as error:
            raise LoadTestError(f"process {pid} has ended, or is not ours to look at: {error}") from error
    return resident_kib * 1024 / MIB, descriptors, threads


async def soak(options: argparse.Namespace, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Load, look, sum up."""
    chance = random.Random(options.seed)
    steps: list[Step] = []
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session(options.url, CONNECTIONS))
        answers = json.loads(options.answers.read_text()) if options.answers else None
        sender = Mixed(session, chance.sample(pictures, len(pictures)), answers)
        users = options.users or 32
        rate = options.rate or options.share * await capacity(sender, users, options.capacity_seconds)
        idle = await stack.enter_async_context(idle_connections(options.url, options.idle_connections))
        started_s = time.perf_counter()
        while (passed_s := time.perf_counter() - started_s) < options.seconds:
            seconds = min(options.step, options.seconds - passed_s)
            if options.users:
                run = await paced_loop(sender, options.users, rate, seconds, chance)
            else:
                run = await open_loop(sender, rate, seconds, chance)
            steps.append(_step(run, time.perf_counter() - started_s, look(options.pid)))
            sys.stderr.write(f"{json.dumps(asdict(steps[-1]))}\n")
        open_at_end, lost = idle.open, idle.lost
    return {
        "machine": machine(),
        "rate": rate,
        "users": options.users,
        "idle_connections": {"open": open_at_end, "lost": lost},
        **summary(steps, options.warm_up),
        "steps": [asdict(step) for step in steps],
    }


async def capacity(sender: Mixed, users: int, seconds: float) -> float:
    """Answers a second of a closed loop of ``users``, after a warm-up as long.

    Raises:
        LoadTestError: There are none.
    """
    await closed_loop(sender, users, seconds)
    run = await closed_loop(sender, users, seconds)
    answered = sum(bool(sample.prediction) for sample in run.in_time)
    if not answered:
        raise LoadTestError(f"no answers: {Counter(sample.status for sample in run.samples)}")
    return answered / run.seconds


def _step(run: Run, seconds: float, seen: tuple[float, int, int]) -> Step:
    return Step(
        round(seconds, 1),
        len(run.samples),
        dict(Counter(sample.status for sample in run.samples)),
        percentiles_ms(sample.seconds for sample in run.samples if sample.prediction),
        percentiles_ms(sample.lag_s for sample in run.samples),
        *seen,
    )


def summary(steps: Sequence[Step], warm_up_s: float) -> dict[str, Any]:
    """Growth from the first to the last quarter of the steps after the warm-up, and what failed."""
    after = [step for step in steps if step.seconds > warm_up_s] or list(steps)
    quarter = max(1, len(after) // 4)
    grown = {
        name: mean(getattr(step, name) for step in after[-quarter:])
        - mean(getattr(step, name) for step in after[:quarter])
        for name in ("resident_mib", "descriptors", "threads")
    }
    statuses: Counter[str] = sum((Counter(step.statuses) for step in steps), Counter())
    failed = sum(count for status, count in statuses.items() if status != "200")
    return {
        "sent": sum(step.sent for step in steps),
        "statuses": dict(statuses),
        "failed": failed,
        "growth": {name: round(value, 1) for name, value in grown.items()},
        "p50_ms": [round(end.latency_ms.get("p50", 0.0), 1) for end in (after[0], after[-1])],
        "p99_ms": [round(end.latency_ms.get("p99", 0.0), 1) for end in (after[0], after[-1])],
        "flat": grown["resident_mib"] <= GROWTH_MIB and not failed,
    }


def main() -> int:
    """Parse the command line, load, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the service (%(default)s)")
    parser.add_argument("--pid", type=int, nargs="+", required=True, help="the service's processes")
    parser.add_argument("--seconds", type=float, default=600, help="how long (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=60, help="of it, does not count (%(default)s)")
    parser.add_argument("--share", type=float, default=0.7, help="of the capacity (%(default)s)")
    parser.add_argument("--rate", type=float, help="requests a second instead")
    parser.add_argument("--users", type=int, help="at most so many requests at a time; default: any number")
    parser.add_argument("--answers", type=Path, help="JSON, what is right: image's SHA-256, budget, exit")
    parser.add_argument("--step", type=float, default=STEP_S, help="seconds between two looks (%(default)s)")
    parser.add_argument("--capacity-seconds", type=float, default=5, help="of that measurement (%(default)s)")
    parser.add_argument("--idle-connections", type=int, default=0, help="kept open besides (%(default)s)")
    parser.add_argument("--data", type=Path, help="images, as for exitramp bench; default: synthetic ones")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and order (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder of the report (%(default)s)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pictures = synthetic_pictures(options.seed) if options.data is None else read_pictures(options.data)
    told = uvloop.run(soak(options, pictures))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps(told, indent=1) + "\n")
    from loadtest.soak_plot import draw

    draw(told, options.out / "soak.png")
    sys.stdout.write(json.dumps({name: value for name, value in told.items() if name != "steps"}) + "\n")
    return int(not told["flat"])


if __name__ == "__main__":
    sys.exit(run_script(main))
