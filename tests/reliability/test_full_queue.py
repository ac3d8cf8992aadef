"""Row 4: who comes to a full queue is refused at once, and nobody who is in it is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import httpx
from conftest import SmallStore
from figures import Figure
from hosted import held_by, hosted, known

ROOM, MORE = 64, 50

REFUSED_S = 0.05
"""Longest time of a refusal beyond what the probe beside it takes: that tells how busy the machine is."""

FULL = {"X-FLOP-Limit": "100M"}
"""Whatever was asked before, the answer is the same."""


async def test_a_full_queue_refuses_exactly_those_beyond_it_at_once(
    small_store: SmallStore, png: Callable[[int], bytes], figure: Figure
) -> None:
    bodies = [png(i) for i in range(ROOM)]
    with hosted(small_store.root, max_in_flight=ROOM, launch_timeout_s=120) as server:
        alone = [server.client.post("/classify", content=body, headers=FULL).json() for body in bodies]
        gate, faults = threading.Event(), server.faults()
        faults.before = held_by(gate)
        before = server.sample("exitramp_rejected_total", reason="overloaded")
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            try:
                asked = [
                    asyncio.create_task(client.post("/classify", content=body, headers=FULL))
                    for body in bodies
                ]
                while server.sample("exitramp_in_flight") < ROOM:
                    await asyncio.sleep(0.01)
                refusals = [await _refused(client, bodies[0]) for _ in range(MORE)]
                at_full = server.sample("exitramp_in_flight")
            finally:
                gate.set()
            answers = await asyncio.gather(*asked)
        rejected = server.sample("exitramp_rejected_total", reason="overloaded") - before
        slowest_ms, probe_ms = (1000 * max(times) for times in list(zip(*refusals, strict=True))[:2])
        refused = sum(answer.status_code == 503 for *_, answer in refusals)
        right = sum(
            answer.status_code == 200
            and known(answer.json()["predictions"][0]) == known(expected["predictions"][0])
            for answer, expected in zip(answers, alone, strict=True)
        )
        figure(
            4,
            f"{refused} of {MORE} refused, the slowest after {slowest_ms:.1f} ms (a probe beside it at most "
            f"{probe_ms:.1f}); metric +{rejected:.0f}; {right} of {ROOM} in the queue answered as when alone",
        )
    assert at_full == ROOM and right == ROOM and rejected == MORE
    for took_s, _, answer in refusals:
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert took_s <= REFUSED_S


async def _refused(client: httpx.AsyncClient, body: bytes) -> tuple[float, float, httpx.Response]:
    """Time of one request, time of a probe beside it, and the answer."""
    started_s = time.perf_counter()
    answer = await client.post("/classify", content=body, headers=FULL)
    took_s = time.perf_counter() - started_s
    await client.get("/livez")
    return took_s, time.perf_counter() - started_s - took_s, answer
