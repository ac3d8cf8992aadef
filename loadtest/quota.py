"""Ask for more than a key's quota, with mixed budgets, and tell how many FLOPs a second are granted.

    EXITRAMP_KEYS_FILE=keys.json exitramp serve          where "secret" has 1e9 flops_per_second
    python -m loadtest.quota --url http://127.0.0.1:8000 --key secret --rate 1G

Several replicas: the same EXITRAMP_REDIS_URL for each of them, and one --url for each. First the burst is
spent; measured is what comes after. Prints one JSON line. The exit code is 1 if the figure is off by more
than --tolerance, if a request fails, or if the key was never refused: then the client was too slow to tell.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

SHIP = Path(__file__).parent.parent / "tests" / "images" / "ship.png"
SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
PATIENCE_S = 60
"""Longest wait for the first refusal."""


@dataclass
class Tally:
    """What came back, since the last ``clear``; requests without an answer have the status 0."""

    flops: Counter[str] = field(default_factory=Counter)  # by URL
    statuses: Counter[int] = field(default_factory=Counter)
    images: int = 0
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    def clear(self) -> None:
        """Begin to count."""
        self.flops.clear()
        self.statuses.clear()
        self.images = 0

    def enter(self, url: str, answer: httpx.Response | None, images: int) -> None:
        """Count an answer, unless it comes too late."""
        if self.over:
            return
        self.statuses[0 if answer is None else answer.status_code] += 1
        if answer is not None and answer.is_success:
            self.flops[url] += int(answer.headers["X-FLOPs"])
            self.images += images


def number(text: str) -> float:
    """A plain or scientific number, or one with a suffix, as the service reads it."""
    return float(text[:-1]) * SUFFIXES[text[-1]] if text[-1:] in SUFFIXES else float(text)


def mixture(flops: list[float]) -> list[dict[str, str]]:
    """Headers of every kind of request: none, a budget, a limit, both."""
    kinds: list[dict[str, str]] = [{}]
    for value in flops:
        kinds.append({"X-FLOP-Budget": f"{value:.0f}"})
        kinds.append({"X-FLOP-Limit": f"{value:.0f}"})
        kinds.append({"X-FLOP-Budget": f"{value:.0f}", "X-FLOP-Limit": f"{2 * value:.0f}"})
    return kinds


async def press(url: str, seed: int, options: argparse.Namespace, tally: Tally) -> None:
    """Send requests of random kinds to one replica, one after the other, until the measurement is over."""
    chance = random.Random(seed)
    async with httpx.AsyncClient(timeout=60) as client:
        while not tally.over:
            images = chance.choices(options.images, k=chance.choice((1, 1, 1, options.group)))
            body: dict[str, Any] = {"content": images[0]}
            if len(images) > 1:
                body = {"files": [("image", ("i", image, "image/png")) for image in images]}
            headers = {"X-API-Key": options.key, **chance.choice(options.kinds)}
            answer = None
            try:
                answer = await client.post(f"{url}/classify", headers=headers, **body)
            except httpx.HTTPError as error:
                sys.stderr.write(f"{url}: {error!r}\n")
            tally.enter(url, answer, len(images))
            if answer is None or not answer.is_success:
                tally.refused.set()
                await asyncio.sleep(options.pause)  # less than Retry-After: the key shall have no rest


async def measure(options: argparse.Namespace) -> Tally:
    """Spend the burst, then count for ``options.seconds``."""
    tally = Tally()
    workers = [
        asyncio.create_task(press(url, seed, options, tally))
        for seed, url in enumerate(options.url * options.connections)
    ]
    await asyncio.wait_for(tally.refused.wait(), PATIENCE_S)
    await asyncio.sleep(options.settle)
    tally.clear()
    started_s = time.perf_counter()
    await asyncio.sleep(options.seconds)
    tally.over = True
    options.seconds = time.perf_counter() - started_s
    await asyncio.gather(*workers)
    return tally


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", action="append", help="of a replica; may be given several times")
    parser.add_argument("--key", required=True, help="an API key with a quota that nobody else uses now")
    parser.add_argument("--rate", type=number, required=True, help="its flops_per_second")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--settle", type=float, default=2, help="seconds from the first refusal on")
    parser.add_argument("--flops", type=number, nargs="*", default=[16e6, 20e6, 25e6, 40e6, 60e6])
    parser.add_argument("--group", type=int, default=4, help="images of every fourth request")
    parser.add_argument("--image", type=Path, nargs="*", default=[SHIP], help="files to choose from")
    parser.add_argument("--connections", type=int, default=8, help="to each replica")
    parser.add_argument("--pause", type=float, default=0.02, help="after a refusal, seconds")
    parser.add_argument("--tolerance", type=float, default=0.02)
    options = parser.parse_args()
    options.url = options.url or ["http://127.0.0.1:8000"]
    options.kinds = mixture(options.flops)
    options.images = [path.read_bytes() for path in options.image]
    return options


def main() -> int:
    """Measure and judge."""
    options = parse()
    try:
        tally = asyncio.run(measure(options))
    except TimeoutError:
        sys.stderr.write(f"no request was refused within {PATIENCE_S} s: ask for more\n")
        return 1
    granted = sum(tally.flops.values()) / options.seconds
    summary = {
        "seconds": round(options.seconds, 3),
        "flops": dict(tally.flops),
        "flops_per_second": round(granted),
        "of_the_rate": round(granted / options.rate, 4),
        "images": tally.images,
        "statuses": dict(sorted(tally.statuses.items())),
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    right = abs(granted / options.rate - 1) <= options.tolerance
    return 0 if right and set(tally.statuses) == {200, 429} else 1


if __name__ == "__main__":
    sys.exit(main())
