"""Open-loop load: requests leave at random times at a given rate, whether or not the last ones came back.

    python -m loadtest.openloop --data DIR --rate 200 --deadline-ms 5 10 20 50 --plot deadlines.png
    python -m loadtest.openloop --data DIR --rate 1500                       # overload: watch brownout

Closed-loop users slow down with the server and hide its delays; these do not. Latency counts from the moment
a request was due, not from when it was sent. Prints one JSON line, for several deadlines one each.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from loadtest.errors import run_script
from loadtest.generator import Run, Sender, open_loop, open_session
from loadtest.images import Picture, read_rows
from loadtest.measures import percentiles_ms
from loadtest.replay import command_line
from loadtest.target import loaded_models


async def measure(options: argparse.Namespace, deadline_ms: str, pictures: list[Picture]) -> dict[str, Any]:
    """Send for ``options.seconds``, wait for what is under way, and sum up."""
    chance = random.Random(options.seed)
    headers = {
        "X-Model": options.model,
        "X-FLOP-Budget": options.budget,
        "X-FLOP-Limit": options.limit,
        "X-Deadline-Ms": deadline_ms,
    }
    async with open_session(options.url, options.connections) as session:
        sender = Sender(session, chance.sample(pictures, len(pictures)), headers)
        run = await open_loop(sender, options.rate, options.seconds, chance)
        curves = {model["name"]: model["curve"] for model in await loaded_models(session)}
    return summary(options, deadline_ms, run, curves)


def summary(
    options: argparse.Namespace, deadline_ms: str, run: Run, curves: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """What the report needs."""
    answers = [sample for sample in run.samples if sample.prediction]
    expired = [sample for sample in run.samples if sample.status == "504"]
    refused = [sample for sample in run.samples if sample.status.isdecimal() and sample.status > "200"]
    exits = Counter(sample.prediction["exit"] for sample in answers)
    count = len(answers)
    mean_flops = sum(sample.prediction["flops"] for sample in answers) / count if answers else None
    told: dict[str, Any] = {
        "rate": options.rate,
        "seconds": options.seconds,
        "sent": len(run.samples),
        "answered": count,
        "statuses": dict(Counter(sample.status for sample in run.samples)),
        "latency_ms": percentiles_ms(sample.seconds for sample in answers),
        "refusal_ms": percentiles_ms(sample.seconds for sample in refused if sample.status != "504"),
        "expired_ms": percentiles_ms(sample.seconds for sample in expired),
        "accuracy": sum(bool(sample.right) for sample in answers) / count if answers else None,
        "degraded": sum(sample.prediction["degraded"] for sample in answers) / count if answers else None,
        "mean_flops": mean_flops,
        "calibrated_accuracy": promised(curves[answers[-1].model], mean_flops) if answers else None,
        "exits": {str(k): exits[k] for k in sorted(exits)},
        "503_without_retry_after": sum(
            sample.status == "503" and not sample.retry_after for sample in run.samples
        ),
        "generator_behind_ms": percentiles_ms(sample.lag_s for sample in run.samples),
    }
    if deadline_ms:
        in_time = sum(sample.seconds <= float(deadline_ms) / 1000 for sample in answers)
        told |= {"deadline_ms": float(deadline_ms), "in_time": in_time / told["sent"]}
    return told


def promised(curve: Sequence[dict[str, float]], mean_flops: float | None) -> float | None:
    """Held-out accuracy of the model that answered last, at ``mean_flops``.

    Where budgets varied that is a little more than they promised together: the curve bends down.
    """
    if not curve or mean_flops is None:
        return None
    flops, accuracies = ([point[name] for point in curve] for name in ("mean_flops", "accuracy"))
    return float(np.interp(mean_flops, flops, accuracies))


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
    parser.add_argument("--seconds", type=float, default=20, help="how long to send (%(default)s)")
    parser.add_argument("--model", default="", help="task or model; the default one answers without it")
    parser.add_argument("--budget", default="", help="X-FLOP-Budget; none without it")
    parser.add_argument("--limit", default="", help="X-FLOP-Limit; none without it")
    parser.add_argument("--deadline-ms", nargs="*", default=[""], help="several are tried in turn")
    parser.add_argument("--plot", type=Path, help="write the figure over the deadlines there, PNG")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and order (%(default)s)")
    options = parser.parse_args()
    pictures = [Picture(content, str(label)) for content, label in read_rows(options.data, options.part)]
    told = []
    for deadline_ms in options.deadline_ms:
        told.append(uvloop.run(measure(options, deadline_ms, pictures)))
        sys.stdout.write(json.dumps(told[-1]) + "\n")
        sys.stdout.flush()
    if options.plot and len(told) > 1:
        draw(told, options.plot)
    return int(not all(line["answered"] for line in told))


if __name__ == "__main__":
    sys.exit(run_script(main))
