"""Row 11, too: a device that hangs, and a process that is frozen. Nobody waits for ever."""

from __future__ import annotations

import io
import os
import signal
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import SmallStore
from figures import Figure
from hosted import counted, held_by, hosted, known
from live import Server, serving
from PIL import Image as PillowImage
from processes import is_running, workers

WAITING = 20

TIMEOUT_S = 3.0

CERTIFICATES = ssl.create_default_context()
"""Read once: nobody asks for them here, and to read them for each request takes longer than the request."""

FULL = {"X-FLOP-Limit": "100M"}
"""Whatever was asked before, the answer is the same."""


def black() -> bytes:
    """The image at which ``faulty/sitecustomize.py`` hangs."""
    file = io.BytesIO()
    PillowImage.new("RGB", (32, 32)).save(file, "PNG")
    return file.getvalue()


def asked(url: str, body: bytes, headers: dict[str, str]) -> tuple[float, httpx.Response]:
    """How long the answer took, seconds, and what it is."""
    started_s = time.perf_counter()
    answer = httpx.post(f"{url}/classify", content=body, headers=headers, timeout=60, verify=CERTIFICATES)
    return time.perf_counter() - started_s, answer


def told_in(told: list[tuple[float, httpx.Response]]) -> str:
    """What became of those who waited, and after what time."""
    slowest_s = max(took_s for took_s, _ in told)
    return f"{counted(answer for _, answer in told)} after at most {slowest_s:.2f} s"


def until(happened: Callable[[], bool], patience_s: float = 60) -> float:
    """Wait; how long it took, seconds."""
    started_s = time.monotonic()
    while not happened():
        assert time.monotonic() < started_s + patience_s, "it never happened"
        time.sleep(0.02)
    return time.monotonic() - started_s


def said(answer: httpx.Response) -> Any:
    return known(answer.json()["predictions"][0]) if answer.status_code == 200 else answer.json()["code"]


def test_a_launch_that_hangs_is_told_to_all_who_wait_and_forgotten_once_it_returns(
    small_store: SmallStore, png: Callable[[int], bytes], figure: Figure
) -> None:
    bodies = [png(i) for i in range(WAITING)]
    with hosted(small_store.root, launch_timeout_s=TIMEOUT_S) as server, ThreadPoolExecutor(WAITING) as pool:
        alone = [said(asked(server.url, body, FULL)[1]) for body in bodies]
        gate, faults = threading.Event(), server.faults()
        faults.before = held_by(gate)
        try:
            waiting = [pool.submit(asked, server.url, body, FULL) for body in bodies]
            until(lambda: server.sample("exitramp_in_flight") == WAITING)
            told = [one.result() for one in waiting]
            late_s, late = asked(server.url, bodies[0], FULL)
            probe, alive = server.client.get("/readyz"), server.client.get("/livez")
        finally:
            gate.set()
        ready_s = until(lambda: server.client.get("/readyz").status_code == 200)
        again = [said(asked(server.url, body, FULL)[1]) for body in bodies]
        hung = server.sample("exitramp_device_failures_total", model="small", reason="hung")
        wrong = sum(one != expected for one, expected in zip(again, alone, strict=True))
        figure(
            11,
            f"a launch hangs: {told_in(told)} (timeout {TIMEOUT_S:g} s), then refused after "
            f"{late_s * 1000:.1f} ms; it returns: ready after {ready_s:.2f} s, {wrong} of {WAITING} wrong",
        )
    assert {(answer.status_code, said(answer)) for _, answer in told} == {(503, "not_ready")}
    assert all(int(answer.headers["retry-after"]) >= 1 for _, answer in told)
    assert (late.status_code, probe.status_code, alive.status_code) == (503, 503, 200)
    assert late_s < TIMEOUT_S / 2  # it was refused: to wait takes longer
    assert hung == 1 and wrong == 0


def test_under_a_deadline_an_answer_in_hand_is_given_when_the_device_hangs(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    with hosted(small_store.root, launch_timeout_s=0.5, latency_objective_s=60) as server:
        gate, faults = threading.Event(), server.faults()
        faults.before = lambda span, features: span.first and held_by(gate)(span, features)
        try:
            took_s, answer = asked(server.url, png(1), {**FULL, "X-Deadline-Ms": "50000"})
        finally:
            gate.set()
        assert answer.status_code == 200 and answer.json()["predictions"][0]["exit"] == 1
        assert took_s < 25


def test_a_server_whose_device_hangs_can_be_ended(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    gate = threading.Event()
    try:
        with hosted(small_store.root, launch_timeout_s=0.5, shutdown_grace_s=1) as server:
            server.faults().before = held_by(gate)
            assert asked(server.url, png(1), FULL)[1].status_code == 503
            started_s = time.monotonic()
        assert time.monotonic() - started_s < 30
    finally:
        gate.set()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_device_that_hangs_for_good_ends_its_process_and_a_supervisor_starts_another(
    small_store: SmallStore,
    png: Callable[[int], bytes],
    figure: Figure,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
) -> None:
    places = [str(Path(__file__).parent / "faulty"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    with serving(_settings(small_store, processes)) as server, ThreadPoolExecutor(WAITING) as pool:
        _, before = asked(server.url, png(1), FULL)
        engine = workers(server.process.pid, "engine")
        hanging = [pool.submit(asked, server.url, black(), FULL) for _ in range(WAITING)]
        told = [one.result() for one in hanging]
        shown = f"hangs for good, {processes} HTTP: {told_in(told)}, then "
        if processes == 1:
            code = server.process.wait(30)
            lines = server.rest_of_log()
            figure(11, f"{shown}exit code {code}: {lines[-1]!r}")
            assert code == 1 and lines[-1].startswith("exitramp: the device has not answered for ")
            assert any('"event":"launch_hung"' in line for line in lines)
        else:
            away_s, refused, after = _away(server, engine, png(1))
            figure(11, f"{shown}another engine after {away_s:.2f} s, until then {dict(refused)}")
            assert said(after) == said(before) and set(refused) <= {"not_ready"}
    assert {(answer.status_code, said(answer)) for _, answer in told} == {(503, "not_ready")}


@pytest.mark.soak
def test_a_frozen_engine_or_front_is_replaced(
    small_store: SmallStore, png: Callable[[int], bytes], figure: Figure
) -> None:
    with serving(_settings(small_store, 2)) as server, ThreadPoolExecutor(WAITING) as pool:
        _, before = asked(server.url, png(1), FULL)
        engine = workers(server.process.pid, "engine")
        os.kill(engine[0], signal.SIGSTOP)
        frozen = [pool.submit(asked, server.url, png(i), FULL) for i in range(WAITING)]
        away_s, refused, after = _away(server, engine, png(1))
        told = [one.result() for one in frozen]
        front = workers(server.process.pid)[0]
        os.kill(front, signal.SIGSTOP)
        front_s = until(lambda: not is_running(front))
        until(lambda: len(workers(server.process.pid)) == 2)
        figure(
            11,
            f"engine stopped (SIGSTOP, timeout {TIMEOUT_S:g} s): {told_in(told)}, another one answers after "
            f"{away_s:.2f} s, until then {dict(refused)}; a stopped front is replaced after {front_s:.2f} s",
        )
        assert said(asked(server.url, png(1), FULL)[1]) == said(before)
    assert said(after) == said(before) and set(refused) <= {"not_ready"}
    assert {said(answer) for _, answer in told} <= {"not_ready"}


def _settings(store: SmallStore, processes: int) -> dict[str, str]:
    chosen = {"MODEL_STORE": str(store.root), "MODELS": '["small"]', "EXECUTOR": "torch", "BROWNOUT": "false"}
    return {
        **chosen,
        "HTTP_WORKERS": str(processes),
        "LAUNCH_TIMEOUT_S": str(TIMEOUT_S),
        "RECHECK_SHARE": "0",
    }


def _away(server: Server, engine: list[int], body: bytes) -> tuple[float, Counter[str], httpx.Response]:
    """How long no engine but ``engine`` is there, what is said until then, and the first answer."""
    started_s, refused = time.monotonic(), Counter[str]()
    while time.monotonic() < started_s + 60:
        _, answer = asked(server.url, body, FULL)
        if answer.status_code == 200:
            assert workers(server.process.pid, "engine") != engine
            return time.monotonic() - started_s, refused, answer
        refused[said(answer)] += 1
        time.sleep(0.05)
    raise AssertionError(f"no engine came back: {refused}")
