"""Hundreds of connections that hardly send anything are closed in time, and nobody else notices them."""

from __future__ import annotations

import http.client
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SmallStore
from figures import Figure
from live import Server, serving

PERIOD_S = 0.1
CLOSED_S = 6.0
"""Age that no connection of the attack may exceed."""

SCRIPT = Path(__file__).parent / "slow_clients.py"


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # inherited by the server
    store = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    try:
        with serving({**store, "RECHECK_SHARE": "0"}) as running:
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


class Normal:
    """A client that asks ten times a second, every other time over a new connection."""

    def __init__(self, port: int, image: bytes) -> None:
        self._port, self._image = port, image
        self._kept = self._connection()
        self.errors: list[str] = []

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)

    def close(self) -> None:
        self._kept.close()

    def ask(self, count: int) -> list[float]:
        """The latencies of ``count`` requests, counted from when each was due; seconds."""
        begun_s, latencies_s = time.monotonic(), []
        for number in range(count):
            due_s = begun_s + number * PERIOD_S
            time.sleep(max(0.0, due_s - time.monotonic()))
            connection = self._kept if number % 2 else self._connection()
            try:
                connection.request("POST", "/classify", self._image)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.errors.append(str(answer.status))
            except OSError as error:
                self.errors.append(repr(error))
            if connection is not self._kept:
                connection.close()
            latencies_s.append(time.monotonic() - due_s)
        return latencies_s


def under_attack(normal: Normal, port: int, count: int, ages_s: list[float]) -> list[float]:
    seconds = count * PERIOD_S
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(port), str(seconds + 0.5)], stdout=subprocess.PIPE, text=True
    ) as attack:
        assert attack.stdout is not None and attack.stdout.readline() == "all are there\n"
        latencies_s = normal.ask(count)
        ended = json.loads(attack.stdout.readline())
    assert all(ended.values()), f"not a single one was closed of a kind: {ended}"
    ages_s += [age_s for ages in ended.values() for age_s in ages]
    return latencies_s


def percentile(latencies_s: list[float], percent: int) -> float:
    return statistics.quantiles(latencies_s, n=100, method="inclusive")[percent - 1]


@pytest.mark.parametrize(
    ("rounds", "count", "percent", "most"),
    [(2, 30, 50, 2.0), pytest.param(6, 100, 99, 1.5, marks=pytest.mark.soak)],
    ids=["median of 60", "p99 of 600"],
)
def test_slow_clients_are_sent_away_and_others_do_not_notice(
    server: Server,
    png: Callable[[int], bytes],
    figure: Figure,
    rounds: int,
    count: int,
    percent: int,
    most: float,
) -> None:
    port = int(server.url.rpartition(":")[2])
    normal = Normal(port, png(0))
    normal.ask(10)
    alone_s: list[float] = []
    attacked_s: list[float] = []
    ages_s: list[float] = []
    for _ in range(rounds):  # in turns: others may use the machine, too
        alone_s += normal.ask(count)
        attacked_s += under_attack(normal, port, count, ages_s)
    normal.close()
    times_s = [percentile(sample, percent) for sample in (attacked_s, alone_s)]
    shown = f"p{percent} {times_s[0] * 1000:.1f} ms under attack, {times_s[1] * 1000:.1f} ms alone"
    closed = f"{len(ages_s)} slow ones closed after {max(ages_s):.2f} s at most"
    counted = f"{len(normal.errors)} errors; n = {len(attacked_s)} + {len(alone_s)}"
    figure(13, f"{shown}: {times_s[0] / times_s[1]:.2f} x; {closed}; {counted}")
    assert not normal.errors
    assert max(ages_s) <= CLOSED_S
    assert times_s[0] <= most * times_s[1]
    assert server.metrics()["exitramp_in_flight"] <= 50, "permits of those who hold connections come back"
