"""Open-loop load: requests leave at random times at a given rate, whether or not the last ones came back.

    python loadtest/openloop.py --data DIR --rate 200 --deadline-ms 5 10 20 50 --plot deadlines.png
    python loadtest/openloop.py --data DIR --rate 1500                       # overload: watch brownout

Closed-loop users slow down with the server and hide its delays; these do not. Latency counts from the moment
a request was due, not from when it was sent. Prints one JSON line, for several deadlines one each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import uvloop
from replay import command_line, read_rows


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    right: int = 0
    degraded: int = 0
    flops: int = 0
    exits: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    behind_s: float = 0.0
    model: str = ""
    curve: list[dict[str, float]] = field(default_factory=list)


async def one(
    session: aiohttp.ClientSession,
    row: tuple[bytes, int],
    headers: dict[str, str],
    due_s: float,
    tally: Tally,
) -> None:
    """Send one image and enter its answer."""
    try:
        async with session.post("/classify", data=row[0], headers=headers) as answer:
            body = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.statuses[type(error).__name__] += 1
        return
    seconds = time.perf_counter() - due_s
    tally.statuses[str(answer.status)] += 1
    if answer.status == 200:
        (prediction,) = body["predictions"]
        tally.model = body["model"]
        tally.answered_s.append(seconds)
        tally.right += prediction["index"] == row[1]
        tally.degraded += prediction["degraded"]
        tally.flops += prediction["flops"]
        tally.exits[prediction["exit"]] += 1
    elif answer.status == 504:
        tally.late_s.append(seconds)
    else:
        tally.refused_s.append(seconds)
        tally.without_retry_after += answer.status == 503 and "Retry-After" not in answer.headers


async def run(options: argparse.Namespace, deadline_ms: str, rows: list[tuple[bytes, int]]) -> Tally:
    """Send for ``options.seconds``, then wait for what is under way."""
    chance = random.Random(options.seed)
    headers = {
        "X-Model": options.model,
        "X-FLOP-Budget": options.budget,
        "X-FLOP-Limit": options.limit,
        "X-Deadline-Ms": deadline_ms,
    }
    headers = {name: value for name, value in headers.items() if value}
    headers["Content-Type"] = "application/octet-stream"
    tally = Tally()
    connector = aiohttp.TCPConnector(limit=options.connections)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(options.url, connector=connector, timeout=timeout) as session:
        tasks: set[asyncio.Task[None]] = set()
        started_s = due_s = time.perf_counter()
        while due_s < started_s + options.seconds:
            now_s = time.perf_counter()
            if due_s > now_s:
                await asyncio.sleep(due_s - now_s)
            tally.behind_s = max(tally.behind_s, now_s - due_s)
            task = asyncio.create_task(one(session, chance.choice(rows), headers, due_s, tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due_s += chance.expovariate(options.rate)
        await asyncio.gather(*tasks)
        if tally.model:
            async with session.get(f"/models/{tally.model}") as answer:
                tally.curve = (await answer.json())["curve"]
    return tally


def summary(options: argparse.Namespace, deadline_ms: str, tally: Tally) -> dict[str, Any]:
    """What the report needs."""
    answered = len(tally.answered_s)
    mean_flops = tally.flops / answered if answered else None
    told: dict[str, Any] = {
        "rate": options.rate,
        "seconds": options.seconds,
        "sent": sum(tally.statuses.values()),
        "answered": answered,
        "statuses": dict(tally.statuses),
        "latency_ms": percentiles(tally.answered_s),
        "refusal_ms": percentiles(tally.refused_s),
        "expired_ms": percentiles(tally.late_s),
        "accuracy": tally.right / answered if answered else None,
        "degraded": tally.degraded / answered if answered else None,
        "mean_flops": mean_flops,
        "calibrated_accuracy": promised(tally.curve, mean_flops),
        "exits": {str(k): tally.exits[k] for k in sorted(tally.exits)},
        "503_without_retry_after": tally.without_retry_after,
        "generator_behind_ms": round(1000 * tally.behind_s, 1),
    }
    if deadline_ms:
        in_time = sum(seconds <= float(deadline_ms) / 1000 for seconds in tally.answered_s)
        told |= {"deadline_ms": float(deadline_ms), "in_time": in_time / told["sent"]}
    return told


def promised(curve: Sequence[dict[str, float]], mean_flops: float | None) -> float | None:
    """Held-out accuracy of the model that answered last, at ``mean_flops``.

    Where budgets varied that is a little more than they promised together: the curve bends down.
    """
    if not curve or mean_flops is None:
        return None
    points = [[point[name] for point in curve] for name in ("mean_flops", "accuracy")]
    return float(np.interp(mean_flops, *points))


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest, milliseconds."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {name: round(1000 * ordered[round(share * last)], 2) for name, share in shares.items() if ordered}


def draw(told: Sequence[dict[str, Any]], path: Path) -> None:
    """The share that came in time, and accuracy with its standard error, against the deadline."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.2), dpi=160, facecolor="white", layout="constrained")
    figure.suptitle(f"{told[0]['rate']:g} requests a second, at random times", x=0.01, ha="left", fontsize=10)
    deadlines = [one["deadline_ms"] for one in told]
    panels = {
        "answered in time, % of the requests": ("in_time", "sent", told),
        "accuracy of the answers, %, where at least half had one": (
            "accuracy",
            "answered",
            [one for one in told if 2 * one["answered"] >= one["sent"]],
        ),
    }
    for axes, (name, (share, count, shown)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        errors = [100 * sqrt(one[share] * (1 - one[share]) / one[count]) for one in shown]
        axes.errorbar(
            [one["deadline_ms"] for one in shown],
            [100 * one[share] for one in shown],
            errors,
            fmt="o-",
            color="#1b6ca8",
            markersize=4,
            capsize=3,
        )
        axes.set_xscale("log")
        axes.set_xticks(deadlines, [f"{deadline:g}" for deadline in deadlines], minor=False)
        axes.minorticks_off()
        axes.set_xlabel("deadline, ms")
        axes.set_title(name, loc="left", fontsize=9)
        axes.grid(color="#e4e7ea", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> int:
    """Parse the command line, send, report."""
    parser = command_line(__doc__)
    parser.set_defaults(connections=1000)
    parser.add_argument("--rate", type=float, required=True, help="requests per second, Poisson")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", default="")
    parser.add_argument("--budget", default="")
    parser.add_argument("--limit", default="")
    parser.add_argument("--deadline-ms", nargs="*", default=[""], help="several are tried in turn")
    parser.add_argument("--plot", type=Path, help="write the figure over the deadlines there, PNG")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = read_rows(options.data, options.part)
    gc.freeze()  # else the collector's pauses would be taken for the server's
    told = []
    for deadline_ms in options.deadline_ms:
        tally = uvloop.run(run(options, deadline_ms, rows))
        told.append(summary(options, deadline_ms, tally))
        sys.stdout.write(json.dumps(told[-1]) + "\n")
        sys.stdout.flush()
    if options.plot and len(told) > 1:
        draw(told, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
