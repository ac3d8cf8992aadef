"""Row 5: a deadline that passes in the queue is answered when it does, not when the device gets to it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from statistics import median

import httpx
import pytest
from conftest import SmallStore
from figures import Figure
from hosted import counted, hosted

from model_store.nets.staged import Features, Span

REQUESTS = 60

LATE_S = 0.1
"""Longest time from a deadline to its answer, seconds, beyond what an answer takes on an idle device."""


@pytest.mark.parametrize("in_hand", [False, True], ids=["nothing in hand", "an answer in hand"])
async def test_a_deadline_that_passes_in_the_queue_is_answered_then(
    small_store: SmallStore, png: Callable[[int], bytes], figure: Figure, in_hand: bool
) -> None:
    bodies = [png(i) for i in range(REQUESTS)]
    with hosted(small_store.root, launch_timeout_s=120) as server:
        faults, first, later = server.faults(), threading.Event(), threading.Event()

        def block(span: Span, _: Features) -> None:
            assert (later if span.first else first).wait(100)

        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            idle_s = [(await _asked(client, body, 10_000))[0] for body in bodies[:20]]
            faults.before = block
            try:
                asked = [
                    asyncio.create_task(_asked(client, body, 1000 + i % 20 * 25))
                    for i, body in enumerate(bodies)
                ]
                while server.sample("exitramp_in_flight") < REQUESTS:
                    await asyncio.sleep(0.01)
                if in_hand:  # who has no answer goes before who has one
                    first.set()
                answers = await asyncio.gather(*asked)
            finally:
                first.set()
                later.set()
        late_s = [took_s - deadline_ms / 1000 for took_s, deadline_ms, _ in answers]
        latest_ms, median_ms, idle_ms = (1000 * s for s in (max(late_s), median(late_s), max(idle_s)))
        holding = "an answer" if in_hand else "nothing"
        figure(
            5,
            f"{holding} in hand: {counted(answer for *_, answer in answers)}, after the deadline by at most "
            f"{latest_ms:.1f} ms, median {median_ms:.1f} (idle, an answer takes at most {idle_ms:.1f})",
        )
    assert {answer.status_code for *_, answer in answers} == {200 if in_hand else 504}
    assert max(late_s) <= LATE_S + max(idle_s)
    for *_, answer in answers:
        if in_hand:
            assert answer.json()["predictions"][0]["exit"] == 1
        else:
            assert answer.json()["code"] == "deadline_exceeded"


async def _asked(
    client: httpx.AsyncClient, body: bytes, deadline_ms: int
) -> tuple[float, int, httpx.Response]:
    """How long the answer took, and what it is."""
    started_s = time.perf_counter()
    answer = await client.post("/classify", content=body, headers={"X-Deadline-Ms": str(deadline_ms)})
    return time.perf_counter() - started_s, deadline_ms, answer
