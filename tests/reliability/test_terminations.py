"""SIGTERM under load costs nobody an answer to what was sent before, and the server ends in time."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock

import pytest
from conftest import SmallStore
from figures import Figure
from live import Server, serving

from service.settings import Settings

GRACE_S = 3
CLIENTS = 12
"""Half of them keep their connection, the others take a new one for each request."""

WARM_S = 0.7
PATIENCE_S = 20.0


@dataclass
class Round:
    """What became of the requests of one round, and of the server."""

    counts: Counter[str] = field(default_factory=Counter)
    exit_code: int = -1
    exit_s: float = 0.0


class Load:
    """Clients that ask again and again until nobody listens any more."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self._address, self._request = address, request
        self._outcomes: list[tuple[float, str]] = []
        self._lock, self._enough = Lock(), Event()

    def ask(self, keeps: bool) -> None:
        connection: socket.socket | None = None
        while not self._enough.is_set():
            try:
                connection = connection or socket.create_connection(self._address, PATIENCE_S)
            except ConnectionRefusedError:
                return
            outcome, sent_s, last = "lost", time.monotonic(), True
            try:
                connection.sendall(self._request)
                sent_s = time.monotonic()
                outcome, last = answered(connection)
            except OSError as error:
                outcome = type(error).__name__
            with self._lock:
                self._outcomes.append((sent_s, outcome))
            if last or not keeps:
                connection.close()
                connection = None

    def stop(self) -> None:
        self._enough.set()

    def outcomes(self, signal_s: float) -> Counter[str]:
        when = ((outcome, "before" if sent_s < signal_s else "after") for sent_s, outcome in self._outcomes)
        return Counter(" ".join(one) for one in when)


def answered(connection: socket.socket) -> tuple[str, bool]:
    """The status of the next answer, or ``lost`` if it does not come whole; whether it is the last."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if end and length is not None and len(body) >= int(length[1]):
            return head[9:12].decode(), b"\r\nconnection: close" in head
        piece = connection.recv(65536)
        if not piece:
            return "lost", True
        received += piece


def post(body: bytes) -> bytes:
    return b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def loaded(address: tuple[str, int], request: bytes) -> Iterator[tuple[Load, list[Future[None]]]]:
    load = Load(address, request)
    with ThreadPoolExecutor(CLIENTS) as pool:
        try:
            yield load, [pool.submit(load.ask, number % 2 == 0) for number in range(CLIENTS)]
        finally:
            load.stop()


def one_round(server: Server, image: bytes, with_others: bool) -> Round:
    """SIGTERM under load; ``with_others`` also beside a body without end, a late one, and an idle client."""
    address, done = ("127.0.0.1", int(server.url.rpartition(":")[2])), Round()
    request = post(image)
    late, stuck, idle = (socket.create_connection(address, PATIENCE_S) for _ in range(3))
    with late, stuck, idle, loaded(address, request) as (load, clients):
        if with_others:
            idle.sendall(request)
            assert answered(idle) == ("200", False)
            stuck.sendall(request[:-100])
            late.sendall(request[:-100])
        time.sleep(WARM_S)
        signal_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        if with_others:
            time.sleep(1)
            late.sendall(request[-100:])
            done.counts[f"late body {answered(late)[0]}"] += 1
            done.counts["idle " + ("closed" if idle.recv(1) == b"" else "answered")] += 1
        done.exit_code = server.process.wait(PATIENCE_S)
        done.exit_s = time.monotonic() - signal_s
        for client in clients:
            client.result(PATIENCE_S)
    done.counts += load.outcomes(signal_s)
    return done


def judge(rounds: list[Round], figure: Figure, where: str) -> None:
    counts = sum((one.counts for one in rounds), Counter[str]())
    lost = {what: count for what, count in counts.items() if what.endswith("before") and what != "200 before"}
    late = {what: count for what, count in counts.items() if what.endswith("after") and what != "200 after"}
    # Every second round has a body that never ends, which takes the grace.
    free_s, held_s = (max(one.exit_s for one in rounds[kind::2]) for kind in (0, 1))
    answered = f"{sum(lost.values())} lost of {counts['200 before']} sent before"
    after = f"after it {counts['200 after']} answered, {sum(late.values())} not"
    exits = f"exit in {free_s:.1f} s at most, with a half-sent body {held_s:.1f} s (grace {GRACE_S} s)"
    figure(10, f"{len(rounds)} x SIGTERM, {where}: {answered}; {after}; {exits}")
    assert not lost, counts
    assert not late, counts
    assert counts["200 before"] > 20 * len(rounds), "there was no load"
    assert {one.exit_code for one in rounds} == {0}
    assert max(free_s, held_s) <= GRACE_S + 1
    assert counts["late body 200"] == counts["idle closed"] == len(rounds) // 2


def settings(store: SmallStore, workers: int) -> dict[str, str]:
    chosen = {"MODEL_STORE": str(store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    return {**chosen, "SHUTDOWN_GRACE_S": str(GRACE_S), "HTTP_WORKERS": str(workers)}


@pytest.mark.parametrize(
    ("workers", "count"),
    [
        (1, 3),
        pytest.param(1, 20, marks=pytest.mark.soak),
        pytest.param(2, 6, marks=pytest.mark.soak),
    ],
)
def test_no_request_that_was_sent_is_lost_to_sigterm(
    small_store: SmallStore, png: Callable[[int], bytes], figure: Figure, workers: int, count: int
) -> None:
    rounds = []
    for number in range(count):
        with serving(settings(small_store, workers)) as server:
            rounds.append(one_round(server, png(0), with_others=number % 2 == 1))
    judge(rounds, figure, f"{workers} HTTP process{'es' * (workers > 1)}")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_signals_in_a_row_are_one_signal(
    small_store: SmallStore, png: Callable[[int], bytes], workers: int
) -> None:
    with serving(settings(small_store, workers)) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, PATIENCE_S) as connection:
            connection.sendall(post(png(0))[:-1])
            time.sleep(0.3)
            for _ in range(20):
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.01)
            connection.sendall(post(png(0))[-1:])
            assert answered(connection) == ("200", True)
        assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_server_that_is_still_starting_ends_as_well(workers: int) -> None:
    """The model that is being loaded just then is loaded to its end: hence the usual grace."""
    grace_s = Settings().shutdown_grace_s
    for wait_s in (0.0, 0.5, 2.0):
        with serving({"HTTP_WORKERS": str(workers)}, wait=False) as server:
            time.sleep(wait_s)
            signal_s = time.monotonic()
            assert server.stop(PATIENCE_S) == 0, wait_s
            assert time.monotonic() - signal_s <= grace_s + 1, wait_s


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_second_interrupt_waits_for_nobody(small_store: SmallStore, workers: int) -> None:
    with serving(settings(small_store, workers)) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, PATIENCE_S) as connection:
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            time.sleep(0.3)
            signal_s = time.monotonic()
            for _ in range(2):
                server.process.send_signal(signal.SIGINT)
                time.sleep(0.5)
            server.process.wait(PATIENCE_S)
        assert time.monotonic() - signal_s < GRACE_S
