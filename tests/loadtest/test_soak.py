"""A long run is judged by what grew after its warm-up and by what failed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from fake_service import listening, well

from loadtest.errors import LoadTestError
from loadtest.generator import Run, Sample, open_session, paced_loop
from loadtest.idle import idle_connections
from loadtest.images import Picture
from loadtest.soak import BUDGETS, Mixed, Step, kind, look, summary
from loadtest.soak_plot import draw


def step(seconds: float, resident_mib: float, statuses: dict[str, int] | None = None) -> Step:
    told = {"200": 10} if statuses is None else statuses
    return Step(seconds, sum(told.values()), told, {"p50": 5.0, "p99": 9.0}, {}, resident_mib, 40, 20)


def test_growth_is_from_the_first_to_the_last_quarter_after_the_warm_up() -> None:
    steps = [step(10, 100), step(20, 500), *(step(20 + 10 * i, 600 + i) for i in range(1, 9))]
    told = summary(steps, 20)
    assert told["growth"]["resident_mib"] == 6.0  # 601.5 to 607.5; what the warm-up took is no growth
    assert told["flat"] and told["sent"] == 100 and told["growth"]["threads"] == 0


def test_memory_that_grows_is_not_flat() -> None:
    assert not summary([step(10 * i, 100 + 10 * i) for i in range(1, 9)], 0)["flat"]


@pytest.mark.parametrize("status", ["500", "503", "504", "ServerDisconnectedError"])
def test_whatever_is_no_answer_has_failed(status: str) -> None:
    told = summary([step(10, 100, {"200": 9, status: 1}), step(20, 100)], 0)
    assert told["failed"] == 1 and not told["flat"]


def test_a_process_is_looked_at_and_one_that_is_gone_is_named() -> None:
    resident_mib, descriptors, threads = look([os.getpid()])
    assert resident_mib > 10 and descriptors > 2 and threads >= 1
    assert look([os.getpid(), os.getpid()])[2] >= 2 * threads - 1
    with pytest.raises(LoadTestError, match="process 999999999 has ended"):
        look([999999999])


async def test_idle_connections_stay_open_until_the_server_leaves() -> None:
    served: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with idle_connections(f"http://127.0.0.1:{port}", 5) as idle:
            assert (idle.open, idle.lost, len(served)) == (5, 0, 5)
        for writer in served:
            writer.close()
    with pytest.raises(LoadTestError, match="0 of 5"):
        async with idle_connections(f"http://127.0.0.1:{port}", 5):
            pass


def test_the_figure_shows_a_run(tmp_path: Path) -> None:
    told = {
        "rate": 100.0,
        "sent": 20,
        "failed": 0,
        "idle_connections": {"open": 0, "lost": 0},
        "steps": [asdict(step(10, 100)), asdict(step(20, 101, {"500": 1}))],
    }
    draw(told, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes()[:4] == b"\x89PNG"


async def test_another_answer_than_is_known_to_be_right_is_wrong() -> None:
    picture = Picture(b"image")
    known = {kind(headers): {"1": [1, 1000]} for headers in BUDGETS}  # as fake_service's well() answers
    doubtful = known | {kind(BUDGETS[1]): {"1": [0, 1000]}, kind(BUDGETS[2]): {"2": [1, 1000]}}
    for answers, wrong in ((known, 0), (doubtful, 2)):
        run, table = Run(), {hashlib.sha256(picture.content).hexdigest(): answers}
        async with listening(well) as url, open_session(url, 1) as session:
            sender = Mixed(session, [picture], table)
            for _ in BUDGETS:
                await sender.send(run, time.perf_counter())
        assert [sample.status for sample in run.samples].count("wrong") == wrong
        assert sum(sample.status == "200" for sample in run.samples) == len(BUDGETS) - wrong


async def test_users_wait_for_their_answers_and_keep_their_rate() -> None:
    at_once, most = 0, 0

    class Slow:
        async def send(self, run: Run, due_s: float) -> None:
            nonlocal at_once, most
            at_once, most = at_once + 1, max(most, at_once + 1)
            await asyncio.sleep(0.005)
            at_once -= 1
            run.samples.append(Sample(due_s))

    run = await paced_loop(Slow(), 3, 200, 0.5, random.Random(0))
    assert 50 < len(run.samples) < 150 and most <= 3
    assert all(run.end_s - 0.6 < sample.due_s < run.end_s for sample in run.samples)
