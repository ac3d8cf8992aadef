"""What replicas bring, and what a lost one costs: measured on a local Ray cluster of two nodes.

    python -m deploy.ray.measure throughput     # one replica and two, each on a core of its own, in turns
    python -m deploy.ray.measure failures       # a replica and then a node lost at 20 requests/s
    python -m deploy.ray.measure autoscaling    # one replica, a second one under load, one again

Prints one JSON line for each finding. The client shares the machine with the cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from deploy.ray.trial import Trial, trial

SHIP = Path(__file__).parents[2] / "tests/images/ship.png"

IMAGES = 64
"""Images in a request of the stage-bound load: HTTP and Serve are a small part of it."""

PATIENCE_S = 300.0
"""For a replica to start on a busy machine, seconds."""


def many_images() -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request that takes long: many images at full depth."""
    image = BytesIO()  # less to carry than the PNG
    Image.open(SHIP).convert("RGB").resize((32, 32)).save(image, "JPEG", quality=80)
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n\r\n%s\r\n'
    body = IMAGES * (part % image.getvalue()) + b"--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b", "X-FLOP-Limit": "1G"}


async def closed_loop(url: str, connections: int, seconds: float) -> float:
    """Images per second with so many requests under way all the time.

    Raises:
        ClientResponseError: A request failed.
    """
    body, headers = many_images()
    ended_s = time.perf_counter() + seconds
    times_s: list[float] = []

    async def user(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < ended_s:
            async with session.post("/classify", data=body, headers=headers) as answer:
                answer.raise_for_status()
                await answer.read()
            times_s.append(time.perf_counter())

    async with aiohttp.ClientSession(url) as session:
        await asyncio.gather(*(user(session) for _ in range(connections)))
    first_s, last_s = times_s[0], times_s[-1]
    return IMAGES * (len(times_s) - 1) / (last_s - first_s)


async def open_loop(url: str, rate: float, seconds: float) -> tuple[Counter[str], list[float]]:
    """Single images at a fixed rate, whatever comes back: statuses and latencies, seconds."""
    statuses: Counter[str] = Counter()
    took_s: list[float] = []
    image = SHIP.read_bytes()

    async def one(session: aiohttp.ClientSession) -> None:
        sent_s = time.perf_counter()
        try:
            async with session.post("/classify", data=image) as answer:
                await answer.read()
                statuses[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            statuses[type(error).__name__] += 1
        took_s.append(time.perf_counter() - sent_s)

    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(url, timeout=timeout) as session, asyncio.TaskGroup() as group:
        started_s = time.perf_counter()
        for i in range(round(rate * seconds)):
            await asyncio.sleep(started_s + i / rate - time.perf_counter())
            group.create_task(one(session))
    return statuses, sorted(took_s)


def throughput(options: argparse.Namespace) -> None:
    """One replica and two in turns."""
    with two_nodes(options.model) as cluster:
        rates: dict[int, list[float]] = {1: [], 2: []}
        for _, replicas in itertools.product(range(options.rounds), rates):
            deploy(cluster, replicas, replicas, own_cores=True)
            asyncio.run(closed_loop(cluster.url, 2 * replicas, 3))  # meets the batch sizes
            rate = asyncio.run(closed_loop(cluster.url, 2 * replicas, options.seconds))
            rates[replicas].append(rate)
            tell(replicas=replicas, images_per_second=round(rate, 1))
        medians = {replicas: statistics.median(measured) for replicas, measured in rates.items()}
        tell(ratio=round(medians[2] / medians[1], 3))


def failures(options: argparse.Namespace) -> None:
    """Lose a replica, wait for the next one, lose a node."""
    with two_nodes() as cluster:
        deploy(cluster, 2, 2)
        for loss in ("kill_replica", "kill_node"):
            timer = threading.Timer(options.seconds / 3, cluster.do, [loss])
            timer.start()
            statuses, took_s = asyncio.run(open_loop(cluster.url, options.rate, options.seconds))
            timer.join()
            latency_ms = {
                name: round(1000 * took_s[int(share * (len(took_s) - 1))], 1)
                for name, share in {"p50": 0.5, "p99": 0.99, "max": 1}.items()
            }
            tell(loss=loss, statuses=statuses, latency_ms=latency_ms)
            if loss == "kill_replica":
                settled(cluster, 2)


def autoscaling(options: argparse.Namespace) -> None:
    """Load one replica until there are two, then leave them alone."""
    with two_nodes() as cluster:
        deploy(cluster, 1, 2, target_ongoing_requests=2, upscale_delay_s=2, downscale_delay_s=5)
        load = threading.Thread(target=lambda: asyncio.run(closed_loop(cluster.url, 8, options.seconds)))
        load.start()
        tell(replicas=2, after_s_of_load=round(settled(cluster, 2), 1))
        load.join()
        tell(replicas=1, after_s_of_rest=round(settled(cluster, 1), 1))


@contextmanager
def two_nodes(model: str = "cifar10-fusion") -> Iterator[Trial]:
    """A cluster of two nodes with one core each, as far as Ray is concerned."""
    settings = {"MODELS": json.dumps([model]), "BROWNOUT": "false"}
    with trial([{"num_cpus": 1}, {"num_cpus": 1}], settings) as cluster:
        yield cluster


def deploy(cluster: Trial, least: int, most: int, **scale: float) -> None:
    """Deploy ``least`` to ``most`` replicas and wait for ``least``."""
    cluster.do("deploy", scale={"min_replicas": least, "max_replicas": most, **scale})
    settled(cluster, least)


def settled(cluster: Trial, replicas: int) -> float:
    """Wait until there are so many and all answer; how long that took, seconds."""
    return cluster.wait(lambda: bool(cluster.do("settled", replicas=replicas)), PATIENCE_S)


def tell(**finding: Any) -> None:
    """Print one finding."""
    sys.stdout.write(json.dumps(finding) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measurements = {"throughput": throughput, "failures": failures, "autoscaling": autoscaling}
    parser.add_argument("what", choices=measurements)
    parser.add_argument("--seconds", type=float, default=12, help="of load, each time")
    parser.add_argument("--rounds", type=int, default=3, help="of throughput")
    parser.add_argument("--model", default="cifar10-fusion", help="of throughput (%(default)s)")
    parser.add_argument("--rate", type=float, default=20, help="requests a second while something fails")
    options = parser.parse_args()
    measurements[options.what](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
