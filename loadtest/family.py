"""Sweep mean budgets over a task and over each of its models alone: is the family nowhere below a member?

    EXITRAMP_MODELS='["cifar10-fusion", "cifar10-shufflenet"]' exitramp serve
    python -m loadtest.family --data DIR --task cifar10 --plot family.png

Sends every labelled row for each budget, one image a request. Prints one JSON line; the exit code is 1 if the
family is less accurate than a member at the same budget by more than two standard errors of the difference.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from loadtest.errors import run_script
from loadtest.images import read_rows
from loadtest.replay import command_line, send

POINTS = 10
"""Budgets of a sweep, if none are named."""


def members(url: str, task: str) -> list[dict[str, Any]]:
    """The models of ``task``, as the service describes them."""
    listed = httpx.get(f"{url}/models").raise_for_status().json()["models"]
    return [model for model in listed if model["task"] == task]


def sweep(models: Sequence[dict[str, Any]]) -> list[float]:
    """Budgets from the cheapest exit of all to a little more than the dearest, evenly in proportion."""
    low = min(model["exits"][0]["flops"] for model in models)
    high = 1.05 * max(max(point["mean_flops"] for point in model["curve"]) for model in models)
    return [round(low * (high / low) ** (i / (POINTS - 1))) for i in range(POINTS)]


def measure(options: Namespace, target: str, budget: float, rows: list[tuple[bytes, int]]) -> dict[str, Any]:
    """Accuracy, mean FLOPs and who answered, when ``target`` is asked about all rows under ``budget``."""
    asked = Namespace(**vars(options), model=target, budget=f"{budget:.0f}", limit="", group=1)
    answers = asyncio.run(send(asked, rows)).answers
    right = [answers[i]["index"] == label for i, (_, label) in enumerate(rows)]
    models = Counter(answers[i]["model"] for i in range(len(rows)))
    return {
        "target": target,
        "budget": budget,
        "mean_flops": sum(answer["flops"] for answer in answers.values()) / len(rows),
        "accuracy": sum(right) / len(rows),
        "answered_by": dict(models),
        "right": right,
    }


def run(options: Namespace, rows: list[tuple[bytes, int]]) -> list[dict[str, Any]]:
    """Every affordable budget for the task and for each member; an only exit is measured once."""
    models = members(options.url, options.task)
    budgets = options.budgets or sweep(models)
    results = [measure(options, options.task, budget, rows) for budget in budgets]
    for model in models:
        cheapest = model["exits"][0]["flops"]
        own = [budget for budget in budgets if budget >= cheapest]
        once = own[:1] if len(model["exits"]) == 1 else own
        for budget in once:
            results.append(measure(options, model["name"], budget, rows))
        results += [{**results[-1], "budget": budget} for budget in own[len(once) :]]
    return results


def gains(task: str, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the family gains on each member at each budget, with the standard error, paired by row."""
    found = []
    family = {result["budget"]: result["right"] for result in results if result["target"] == task}
    for result in results:
        if result["target"] == task:
            continue
        rows = [int(a) - int(b) for a, b in zip(family[result["budget"]], result["right"], strict=True)]
        found.append(
            {
                "member": result["target"],
                "budget": result["budget"],
                "gain": statistics.fmean(rows),
                "standard_error": statistics.stdev(rows) / len(rows) ** 0.5,
            }
        )
    return found


def draw(task: str, results: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy against the mean FLOPs spent, a line for each member and one for the family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.8), dpi=160, facecolor="white", layout="constrained")
    axes = figure.subplots()
    targets = list(dict.fromkeys(result["target"] for result in results))
    for number, target in enumerate([*targets[1:], task]):
        own = [result for result in results if result["target"] == target]
        style: dict[str, Any] = {"color": f"C{number}", "marker": "s", "ms": 5, "lw": 1.4, "zorder": 3}
        if target == task:
            style = {"color": "#22272e", "marker": "o", "ms": 9, "mfc": "none", "lw": 1.0, "zorder": 2}
        x, y = [result["mean_flops"] / 1e6 for result in own], [100 * result["accuracy"] for result in own]
        axes.plot(x, y, label="the family" if target == task else target, **style)
    axes.set_xscale("log")
    ticks = [t for t in (5, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150) if axes.get_xlim()[0] <= t]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(right=1.1 * max(result["mean_flops"] for result in results) / 1e6)
    axes.set_xlabel("mean FLOPs an image, M multiply-adds")
    axes.set_ylabel("accuracy over HTTP, %")
    axes.grid(color="#e4e7ea", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> int:
    """Parse the command line, send, judge."""
    parser = command_line(__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--budgets", type=float, nargs="*", help="mean FLOPs an image; default: a sweep")
    parser.add_argument("--first", type=int, help="only so many rows")
    parser.add_argument("--plot", type=Path, help="write the figure there, PNG")
    options = parser.parse_args()
    rows = read_rows(options.data, options.part)[: options.first]
    results = run(options, rows)
    if options.plot:
        draw(options.task, results, options.plot)
    against = gains(options.task, results)
    kept = [{key: value for key, value in result.items() if key != "right"} for result in results]
    sys.stdout.write(json.dumps({"rows": len(rows), "results": kept, "against": against}) + "\n")
    return 1 if any(one["gain"] < -2 * one["standard_error"] for one in against) else 0


if __name__ == "__main__":
    sys.exit(run_script(main))
