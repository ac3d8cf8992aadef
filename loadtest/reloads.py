"""Reload a model under load, or load and unload another one, and tell what failed and how memory grew.

    EXITRAMP_ADMIN_KEY_SHA256=$(printf %s secret | sha256sum | cut -c1-64) exitramp serve
    python -m loadtest.reloads --admin-key secret --model cifar10-fusion --times 200
    python -m loadtest.reloads --admin-key secret --model cifar10-shufflenet --times 50 --unload

Requests go to the default model all the while. Memory is the server's resident memory, first measured after a
tenth of the changes, when it has what it needs. Prints one JSON line; the exit code is 1 if a request or a
change failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

SHIP = Path(__file__).parent.parent / "tests" / "images" / "ship.png"
MIB = 2**20


async def press(client: httpx.AsyncClient, image: bytes, statuses: Counter[int], over: asyncio.Event) -> None:
    """Ask the default model, one request after the other; those without an answer have the status 0."""
    while not over.is_set():
        try:
            answer = await client.post("/classify", content=image)
        except httpx.HTTPError as error:
            sys.stderr.write(f"{error!r}\n")
            statuses[0] += 1
        else:
            statuses[answer.status_code] += 1


async def change(client: httpx.AsyncClient, options: argparse.Namespace) -> list[float]:
    """Reload, or load and unload, as often as asked; returns the resident memory after each time, MiB."""
    repository = f"/v2/repository/models/{options.model}"
    headers = {"X-Admin-Key": options.admin_key}
    resident = []
    for _ in range(options.times):
        for verb in ("load", "unload") if options.unload else ("load",):
            (await client.post(f"{repository}/{verb}", headers=headers)).raise_for_status()
        resident.append(await resident_mib(client))
    return resident


async def resident_mib(client: httpx.AsyncClient) -> float:
    """Resident memory of the server, MiB."""
    lines = (await client.get("/metrics")).text.splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("process_resident_memory_bytes "))
    return round(float(value) / MIB, 1)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Change models while requests come."""
    statuses: Counter[int] = Counter()
    over = asyncio.Event()
    image = options.image.read_bytes()
    async with httpx.AsyncClient(base_url=options.url, timeout=60) as client:
        users = [
            asyncio.create_task(press(client, image, statuses, over)) for _ in range(options.connections)
        ]
        started_s = time.perf_counter()
        resident = await change(client, options)
        seconds = time.perf_counter() - started_s
        over.set()
        await asyncio.gather(*users)
    warm = resident[len(resident) // 10 :]
    return {
        "times": options.times,
        "seconds": round(seconds, 1),
        "statuses": dict(sorted(statuses.items())),
        "resident_mib": {"first": warm[0], "last": warm[-1], "most": max(warm)},
    }


def main() -> int:
    """Parse the command line, change, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--admin-key", required=True)
    parser.add_argument("--model", required=True, help="that comes and goes")
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--unload", action="store_true", help="unload it after each time")
    parser.add_argument(
        "--connections", type=int, default=8, help="that classify, one request at a time each"
    )
    parser.add_argument("--image", type=Path, default=SHIP)
    options = parser.parse_args()
    try:
        summary = asyncio.run(measure(options))
    except httpx.HTTPStatusError as error:
        sys.stderr.write(f"{error}: {error.response.text}\n")
        return 1
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0 if set(summary["statuses"]) == {200} else 1


if __name__ == "__main__":
    sys.exit(main())
