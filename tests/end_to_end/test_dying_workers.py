"""Processes that die: what clients see of it, and that others take their places."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from conftest import SmallStore
from live import Server, serving
from PIL import Image as PillowImage
from processes import children, is_running, workers

PATIENCE_S = 60

FULL = {"X-FLOP-Limit": "100M"}
"""Whatever was asked before, the answer is the same."""


@pytest.fixture
def server(small_store: SmallStore) -> Iterator[Server]:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving({**settings, "HTTP_WORKERS": "2", "BROWNOUT": "false"}) as running:
        yield running


class Load:
    """Clients that ask without a pause, each request on a connection of its own."""

    def __init__(self, url: str, body: bytes) -> None:
        self.answers: list[tuple[float, httpx.Response]] = []
        self.broken = 0
        self._url, self._body = url, body
        self._done = threading.Event()

    def _ask(self) -> None:
        while not self._done.is_set():
            try:
                answer = httpx.post(f"{self._url}/classify", content=self._body, headers=FULL, timeout=30)
            except httpx.TransportError:
                self.broken += 1
            else:
                self.answers.append((time.monotonic(), answer))

    @contextmanager
    def running(self, clients: int = 4) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()

    def counts(self) -> Counter[int]:
        return Counter(answer.status_code for _, answer in self.answers)


def until(happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.02)


def answered(server: Server, code: str) -> float:
    return server.metrics().get(f'exitramp_requests_total{{code="{code}",route="/classify"}}', 0.0)


def test_a_dead_front_is_replaced_while_others_answer_and_no_count_is_lost(
    server: Server, png: Callable[[int], bytes]
) -> None:
    load, before = Load(server.url, png(1)), workers(server.process.pid)
    assert len(before) == 2
    with load.running():
        until(lambda: len(load.answers) > 50)
        os.kill(before[0], signal.SIGKILL)
        killed_s = time.monotonic()
        until(lambda: len([pid for pid in workers(server.process.pid) if pid not in before]) == 1)
        until(lambda: len([at_s for at_s, _ in load.answers if at_s > killed_s]) > 100)
    assert set(load.counts()) == {200} and load.broken <= 4
    # A front may die between its count and its answer.
    assert load.counts()[200] <= answered(server, "200") <= load.counts()[200] + load.broken
    until(lambda: server.metrics()["exitramp_in_flight"] == 0)


def test_a_dead_engine_is_replaced_and_said_to_be_away_until_then(
    server: Server, png: Callable[[int], bytes]
) -> None:
    load, (engine,) = Load(server.url, png(1)), workers(server.process.pid, "engine")
    with load.running():
        until(lambda: len(load.answers) > 50)
        label = load.answers[0][1].json()["predictions"][0]
        os.kill(engine, signal.SIGKILL)
        until(lambda: load.counts()[503] > 0)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
            assert ready.headers["retry-after"]
            assert client.get("/livez").json() == {"status": "alive"}
            for path in ("/models", "/metrics"):
                assert client.get(path).json()["code"] == "not_ready"
            until(lambda: client.get("/readyz").status_code == 200)
        ready_s = time.monotonic()
        until(lambda: len([at_s for at_s, _ in load.answers if at_s > ready_s]) > 50)
    assert workers(server.process.pid, "engine") != [engine] and load.broken == 0
    assert set(load.counts()) == {200, 503}
    for _, answer in load.answers:
        if answer.status_code == 503:
            assert answer.json()["code"] == "not_ready" and int(answer.headers["retry-after"]) >= 1
        else:
            assert answer.json()["predictions"][0]["label"] == label["label"]
    assert answered(server, "200") == load.counts()[200]  # fronts have counted, and live
    assert answered(server, "503") == load.counts()[503]


def test_a_terminated_server_answers_what_it_has_taken(server: Server) -> None:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    PillowImage.fromarray(pixels).save(file, "PNG")  # takes its time to decode
    processes = [server.process.pid, *children(server.process.pid)]

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{server.url}/classify", content=file.getvalue(), timeout=60)

    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, i) for i in range(12)]
        # Who has not even connected when the signal comes is rightly refused.
        until(lambda: server.metrics()["exitramp_in_flight"] + answered(server, "200") >= 12)
        server.process.send_signal(signal.SIGTERM)
        answers = [one.result() for one in asked]
    assert [answer.status_code for answer in answers] == [200] * 12
    assert server.process.wait(20) == 0
    assert not [pid for pid in processes if is_running(pid)]


def test_no_process_outlives_its_supervisor(server: Server) -> None:
    orphans = children(server.process.pid)
    assert len(orphans) == 3
    server.process.kill()
    until(lambda: not [pid for pid in orphans if is_running(pid)])
