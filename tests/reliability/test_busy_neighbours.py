"""Other processes want the processor, too: two loops that never rest, on as many cores as there are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from figures import Figure
from live import Server, serving
from steady import Answers, asking

DEADLINE_S = 0.25
OBJECTIVE_S = 0.5


@contextmanager
def busy_neighbours() -> Iterator[int]:
    """One on each core that we have, at least two."""
    count = max(2, len(os.sched_getaffinity(0)))
    with ExitStack() as stack:
        for _ in range(count):
            loop = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            stack.callback(loop.wait)
            stack.callback(loop.kill)
        yield count


class Probe:
    """Asks ten times a second whether the server is ready, as a cluster would, in a connection of its own."""

    def __init__(self, url: str) -> None:
        self.statuses: list[int | str] = []
        self._url, self._over = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.1):
            try:
                self.statuses.append(httpx.get(f"{self._url}/readyz", timeout=2).status_code)
            except httpx.HTTPError as error:
                self.statuses.append(type(error).__name__)


def measured(server: Server, image: bytes, seconds: float) -> tuple[Answers, Answers]:
    """Without a deadline and with one, 20 and 10 a second."""
    deadline = {"X-Deadline-Ms": str(round(1000 * DEADLINE_S))}
    with (
        asking(server.url, image, rate=20) as free,
        asking(server.url, image, rate=10, users=2, headers=deadline) as hurried,
    ):
        time.sleep(seconds)
    return free, hurried


@pytest.mark.soak
def test_requests_are_answered_beside_two_busy_loops(png: Callable[[int], bytes], figure: Figure) -> None:
    with serving({"MODELS": '["cifar10-fusion"]'}) as server:
        measured(server, png(0), 5)  # what is compiled in the background comes first
        alone, _ = measured(server, png(0), 10)
        with busy_neighbours() as loops, Probe(server.url) as probe:
            free, hurried = measured(server, png(0), 20)
    late = sum(status == "504" for status in hurried.statuses)
    late_ms = 1000 * (max(hurried.seconds) - DEADLINE_S)
    figure(
        9,
        f"{loops} busy loops beside it, 20 req/s: {free.failures.total()} of {len(free.statuses)} failed, "
        f"p99 {free.p99_ms:.0f} ms, alone {alone.p99_ms:.0f} ms; of {len(hurried.statuses)} with a deadline "
        f"of {1000 * DEADLINE_S:.0f} ms {late} got 504, the last answer {late_ms:+.0f} ms from it; "
        f"{probe.statuses.count(200)} of {len(probe.statuses)} probes ready",
    )
    assert not free.failures and set(probe.statuses) == {200}
    assert set(hurried.failures) <= {"504"} and late <= 0.02 * len(hurried.statuses)
    assert free.p99_ms < 1000 * max(OBJECTIVE_S, 3 * alone.p99_ms / 1000)
    assert late_ms < 1000 * max(0.1, 3 * alone.p99_ms / 1000)
