"""One of two replicas dies, or is replaced: nobody who asks the balancer notices."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import SmallStore
from figures import Figure
from live import START_S, start
from open_inference import settings_of
from steady import asking

CONFIG = Path(__file__).parents[2] / "deploy" / "balancer" / "haproxy.cfg"
RATE, USERS = 40, 8


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Replica:
    """A server that comes back at the same address."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.address = free_address()
        self._settings = {**settings, "PORT": self.address.partition(":")[2]}
        self._start()

    def _start(self) -> None:
        self._process = start(self._settings)

    def await_ready(self) -> None:
        give_up_s = time.monotonic() + START_S
        while True:
            try:
                if httpx.get(f"http://{self.address}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self._process.poll() is None and time.monotonic() < give_up_s, "never ready"
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> int:
        """With a signal; its exit code."""
        self._process.send_signal(number)
        code = self._process.wait(30)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code

    def again(self) -> None:
        """Start it anew, and wait until the balancer can have noticed."""
        self._start()
        self.await_ready()
        time.sleep(1.5)

    def close(self) -> None:
        if self._process.poll() is None:
            self.end(signal.SIGKILL)


@contextmanager
def replicas(settings: dict[str, str]) -> Iterator[list[Replica]]:
    """Two of them, ready."""
    both = [Replica(settings) for _ in range(2)]
    try:
        for replica in both:
            replica.await_ready()
        yield both
    finally:
        for replica in both:
            replica.close()


@contextmanager
def balanced(both: list[Replica]) -> Iterator[str]:
    """The address of HAProxy in front of them, with the configuration that we ship."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("haproxy is not installed (Debian: apt-get install haproxy)")
    address = free_address()
    places = {"BALANCER": address, "REPLICA_1": both[0].address, "REPLICA_2": both[1].address}
    process = subprocess.Popen(
        [program, "-db", "-f", str(CONFIG)], env={**os.environ, **places}, stderr=subprocess.DEVNULL
    )
    try:
        give_up_s = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < give_up_s:
            try:
                if httpx.get(f"http://{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_nobody_notices_that_one_of_two_replicas_is_killed_or_rolled(
    rounds: int, small_store: SmallStore, png: Callable[[int], bytes], figure: Figure
) -> None:
    settings = settings_of(small_store.root, "small")
    codes = []
    with (
        replicas(settings) as both,
        balanced(both) as url,
        asking(url, png(0), RATE, USERS) as answers,
    ):
        answers.await_more(RATE)
        for _ in range(rounds):
            both[0].end(signal.SIGKILL)
            answers.await_more(RATE)
            both[0].again()
            codes.append(both[1].end(signal.SIGTERM))
            answers.await_more(RATE)
            both[1].again()
        answers.await_more(RATE)
    figure(
        17,
        f"{rounds} killed and {rounds} rolled of two replicas behind HAProxy at {RATE} req/s: "
        f"{answers.failures.total()} of {len(answers.statuses)} without a 2xx, p99 {answers.p99_ms:.0f} ms",
    )
    assert not answers.failures and codes == [0] * rounds
