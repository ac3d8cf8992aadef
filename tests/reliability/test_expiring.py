"""Row 5: a deadline that passes in the queue is answered when it does, not when the device gets to it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from conftest import SmallStore
from figures import Figure
from hosted import hosted

from model_store.nets.staged import Features, Span

REQUESTS = 60

LATE_S = 0.1
"""Longest time from a deadline to its answer, seconds; for all, beyond what they take on an idle device."""


class Answer(NamedTuple):
    """What came, and how long after its deadline, seconds."""

    status: int
    body: Any
    late_s: float


@pytest.mark.parametrize("in_hand", [False, True], ids=["nothing in hand", "an answer in hand"])
async def test_a_deadline_that_passes_in_the_queue_is_answered_then(
    small_store: SmallStore, png: Callable[[int], bytes], figure: Figure, in_hand: bool
) -> None:
    bodies = [png(i) for i in range(REQUESTS)]
    with hosted(small_store.root, launch_timeout_s=120) as server:
        faults, first, later = server.faults(), threading.Event(), threading.Event()

        def block(span: Span, _: Features) -> None:
            assert (later if span.first else first).wait(100)

        idle = await _burst(server.url, bodies, [10_000] * REQUESTS)
        idle_s = max(answer.late_s for answer in idle) + 10
        faults.before = block
        try:
            asked = asyncio.create_task(
                _burst(server.url, bodies, [2000 + i % 20 * 25 for i in range(REQUESTS)])
            )
            while server.sample("exitramp_in_flight") < REQUESTS and not asked.done():
                await asyncio.sleep(0.01)
            if in_hand:  # who has no answer goes before who has one
                first.set()
            answers = await asked
        finally:
            first.set()
            later.set()
    late_ms = [1000 * answer.late_s for answer in answers]
    statuses, holding = Counter(answer.status for answer in answers), "an answer" if in_hand else "nothing"
    figure(
        5,
        f"{holding} in hand: {dict(statuses)}, after the deadline by at most {max(late_ms):.1f} ms, median "
        f"{median(late_ms):.1f} (n = {REQUESTS}; with an idle device all have answers within {idle_s:.2f} s)",
    )
    assert statuses == {200 if in_hand else 504: REQUESTS}
    assert median(late_ms) <= 1000 * LATE_S and max(late_ms) <= 1000 * (LATE_S + idle_s)
    for answer in answers:
        if in_hand:
            assert answer.body["predictions"][0]["exit"] == 1
        else:
            assert answer.body["code"] == "deadline_exceeded"


async def _burst(url: str, bodies: list[bytes], deadlines_ms: list[int]) -> list[Answer]:
    """All at once, over connections that are there already: what a client library takes is not measured."""
    place = urlsplit(url)
    connections = [await asyncio.open_connection(place.hostname, place.port) for _ in bodies]
    try:
        asked = zip(connections, bodies, deadlines_ms, strict=True)
        return await asyncio.gather(*(_asked(*connection, *one) for connection, *one in asked))
    finally:
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()


async def _asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, deadline_ms: int
) -> Answer:
    fields = f"Host: test\r\nX-Deadline-Ms: {deadline_ms}\r\nContent-Length: {len(body)}"
    started_s = time.perf_counter()
    writer.write(f"POST /classify HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    late_s = time.perf_counter() - started_s - deadline_ms / 1000
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return Answer(int(head.split(" ")[1]), json.loads(await reader.readexactly(length)), late_s)
