"""Send labelled rows to a running service and hold its answers against the offline evaluation.

    exitramp evaluate cifar10-fusion --data DIR --budget 25M --outcomes offline.json
    python -m loadtest.replay --url http://127.0.0.1:8000 --data DIR --budget 25M --outcomes offline.json

Prints one JSON line; the exit code is 1 if an answer differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from loadtest.errors import run_script
from loadtest.images import read_rows


@dataclass
class Result:
    """What came back, by position in the order sent."""

    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    sums: list[int] = field(default_factory=list)
    seconds: float = 0.0


async def send(options: argparse.Namespace, rows: list[tuple[bytes, int]]) -> Result:
    """Send all rows in order over ``options.connections`` connections, ``options.group`` per request."""
    headers = {"X-Model": options.model, "X-FLOP-Budget": options.budget, "X-FLOP-Limit": options.limit}
    headers = {name: value for name, value in headers.items() if value}
    result = Result()
    starts: Iterator[int] = iter(range(0, len(rows), options.group))
    limits = httpx.Limits(max_connections=options.connections)
    async with httpx.AsyncClient(base_url=options.url, timeout=60, limits=limits) as client:

        async def worker() -> None:
            for start in starts:
                chosen = rows[start : start + options.group]
                if options.group == 1:
                    answer = await client.post("/classify", content=chosen[0][0], headers=headers)
                else:
                    files = [("image", ("i", image, "image/webp")) for image, _ in chosen]
                    answer = await client.post("/classify", files=files, headers=headers)
                answer.raise_for_status()
                body = answer.json()
                result.sums.append(body["flops"])
                for offset, prediction in enumerate(body["predictions"]):
                    result.answers[start + offset] = {**prediction, "model": body["model"]}

        started_s = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(options.connections)))
        result.seconds = time.perf_counter() - started_s
    return result


def judge(options: argparse.Namespace, rows: list[tuple[bytes, int]], result: Result) -> dict[str, Any]:
    """Compare with the offline outcomes and summarise."""
    spent = [result.answers[i]["flops"] for i in range(len(rows))]
    windows = [sum(spent[i : i + 5000]) / 5000 for i in range(500, len(spent) - 4999, 50)]
    right = sum(result.answers[i]["index"] == label for i, (_, label) in enumerate(rows))
    summary: dict[str, Any] = {
        "rows": len(rows),
        "accuracy": right / len(rows),
        "mean_flops": sum(spent) / len(rows),
        "largest_flops": max(spent),
        "largest_window_mean": max(windows, default=None),
        "largest_request_sum": max(result.sums),
        "smallest_request_sum": min(result.sums),
        "images_per_s": round(len(rows) / result.seconds, 1),
    }
    if options.outcomes:
        offline = json.loads(options.outcomes.read_text())
        different = [
            i
            for i, number in enumerate(options.numbers)
            if offline[number] != [result.answers[i][name] for name in ("index", "exit", "flops")]
        ]
        summary |= {"different": len(different), "first_different": different[:10]}
    return summary


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that name service, rows and connections."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the service (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder with PART-*.parquet")
    parser.add_argument("--part", default="test", help="train or test (%(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="at most (%(default)s)")
    return parser


def main() -> int:
    """Parse the command line, send, judge."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="", help="task or model; the default one answers without it")
    parser.add_argument("--budget", default="", help="X-FLOP-Budget; none without it")
    parser.add_argument("--limit", default="", help="X-FLOP-Limit; none without it")
    parser.add_argument("--group", type=int, default=1, help="images per request")
    parser.add_argument("--outcomes", type=Path, help="from exitramp evaluate --outcomes")
    parser.add_argument("--rows", type=Path, help="JSON list of row numbers to send, in that order")
    options = parser.parse_args()
    rows = read_rows(options.data, options.part)
    options.numbers = json.loads(options.rows.read_text()) if options.rows else list(range(len(rows)))
    rows = [rows[number] for number in options.numbers]
    summary = judge(options, rows, asyncio.run(send(options, rows)))
    sys.stdout.write(json.dumps(summary) + "\n")
    return 1 if summary.get("different") else 0


if __name__ == "__main__":
    sys.exit(run_script(main))
