"""Mutated images over HTTP: each is answered as it deserves, at once, and none leaves anything in memory."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import SPEC, SmallStore
from figures import Figure
from live import Server, serving
from mutations.mutator import Mutant, Mutator
from mutations.originals import originals, photographs
from processes import children

from model_store.preprocess import ImageError, ImageLimits, decode

CONNECTIONS = 16
CODES = {200: None, 413: "too_large", 415: "unsupported_media_type", 422: "undecodable_image"}
LONGEST_S = 1.0
MAX_GROWTH_KIB = 8 * 1024


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving(settings) as running:
        yield running


def rss_kib(pid: int) -> int:
    """Resident memory of a server and the processes that it has started."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) + sum(map(rss_kib, children(pid)))


def status_of(data: bytes) -> int:
    """What the guard says of a file in this process, within a second of its time."""
    started_s = time.process_time()
    try:
        decode(data, SPEC, ImageLimits())
        return 200
    except ImageError as error:
        return error.status
    finally:
        assert time.process_time() - started_s < LONGEST_S


@dataclass
class Answers:
    """What was answered to mutants.

    Attributes:
        counts: By format and status.
        wrong: Answers that are not those of the guard.
        slowest_s: Longest wait.
        slow: What was waited for longer than allowed.
    """

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[tuple[Mutant, int, Any]] = field(default_factory=list)
    slowest_s: float = 0
    slow: list[Mutant] = field(default_factory=list)

    def add(self, mutant: Mutant, status: int, code: Any, waited_s: float) -> None:
        """Enter one answer."""
        kind = mutant.origin.partition(": ")[2].split()[0]
        self.counts[kind, status] += 1
        self.slowest_s = max(self.slowest_s, waited_s)
        if status != status_of(mutant.data) or CODES.get(status, "none") != code:
            self.wrong.append((mutant, status, code))
        if waited_s > LONGEST_S:
            self.slow.append(mutant)

    def __str__(self) -> str:
        """All counts."""
        totals, rows = Counter[int](), []
        for kind in sorted({kind for kind, _ in self.counts}):
            row = {status: count for (one, status), count in self.counts.items() if one == kind}
            totals.update(row)
            rows.append(f"{kind} {' '.join(str(row.get(status, 0)) for status in CODES)}")
        other = sum(count for status, count in totals.items() if status not in CODES)
        all_of = " ".join(f"{totals[status]} x {status}" for status in CODES)
        return f"{all_of}, {other} other ({'; '.join(rows)}); slowest {self.slowest_s * 1000:.0f} ms"


async def ask_all(url: str, mutants: Sequence[Mutant], answers: Answers) -> None:
    """Send them over several connections, all kept open; the answers are judged when all are there."""
    waiting, answered = iter(mutants), []

    async def client(session: aiohttp.ClientSession) -> None:
        for mutant in waiting:
            started_s = time.perf_counter()
            async with session.post(f"{url}/classify", data=BytesIO(mutant.data)) as answer:
                body, waited_s = await answer.json(content_type=None), time.perf_counter() - started_s
            answered.append((mutant, answer.status, body.get("code"), waited_s))

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(client(session) for _ in range(CONNECTIONS)))
    for entry in answered:
        answers.add(*entry)


def asked_again(server: Server, mutants: Sequence[Mutant]) -> float:
    """Longest wait for those that were slow, alone: an attack is slow always, a machine at times."""
    slowest_s = 0.0
    for mutant in mutants:
        started_s = time.perf_counter()
        server.client.post("/classify", content=mutant.data)
        slowest_s = max(slowest_s, time.perf_counter() - started_s)
    return slowest_s


def judged(server: Server, answers: Answers, count: int) -> None:
    assert not answers.wrong, answers.wrong[0]
    assert sum(answers.counts.values()) == count
    assert asked_again(server, answers.slow) <= LONGEST_S


async def test_a_thousand_mutants_are_answered_as_the_guard_says(server: Server, figure: Figure) -> None:
    answers = Answers()
    await ask_all(server.url, list(Mutator(originals(), seed=3).some(1000)), answers)
    figure(2, f"n = 1,000: {answers}")
    judged(server, answers, 1000)


@pytest.mark.soak
async def test_twenty_thousand_mutants_leave_the_memory_as_it_was(figure: Figure) -> None:
    warm_up, count, step = 5000, 20_000, 1000
    answers, rss, mutator = Answers(), [], Mutator(originals() | photographs(), seed=4)
    # What is served unless told otherwise: the small store's executor is not.
    with serving({"MODELS": '["cifar10-fusion"]'}) as server:
        for start in range(0, warm_up + count, step):
            await ask_all(server.url, list(mutator.some(step, start)), answers)
            rss.append(rss_kib(server.process.pid))
        judged(server, answers, warm_up + count)
    before_kib, *after_kib = rss[warm_up // step - 1 :]
    before, least, most = (kib / 1024 for kib in (before_kib, min(after_kib), max(after_kib)))
    memory = f"RSS {before:.1f} MiB, then {least:.1f} to {most:.1f} MiB every 1,000: {most - before:+.1f} MiB"
    figure(2, f"n = {count:,} after {warm_up:,} of warm-up: {answers}; {memory}")
    assert max(after_kib) - before_kib <= MAX_GROWTH_KIB, rss


def test_sixty_four_mutants_of_one_request_are_answered_one_by_one(server: Server, figure: Figure) -> None:
    seen: Counter[str] = Counter()
    for number in range(10):
        mutants = list(Mutator(originals(), seed=5).some(64, start=64 * number))
        answer = server.client.post("/classify", files=[("image", mutant.data) for mutant in mutants])
        assert answer.status_code == 200, answer.text
        codes = [entry.get("error", {}).get("code") for entry in answer.json()["predictions"]]
        assert codes == [CODES[status_of(mutant.data)] for mutant in mutants]
        seen.update(code or "classified" for code in codes)
    figure(2, f"multipart, 10 x 64: {', '.join(f'{count} {code}' for code, count in seen.most_common())}")


@pytest.mark.parametrize("route", ["/explain", "/classify/stream", "/v2/models/small/infer"])
def test_other_routes_answer_mutants_as_classify_does(server: Server, figure: Figure, route: str) -> None:
    statuses: Counter[int] = Counter()
    for mutant in Mutator(originals(), seed=6).some(150):
        if route.startswith("/v2"):
            text = base64.b64encode(mutant.data).decode()
            tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
            answer = server.client.post(route, json={"inputs": [tensor]})
        else:
            answer = server.client.post(route, content=mutant.data)
        assert answer.status_code == status_of(mutant.data), (mutant, answer.text[:500])
        statuses[answer.status_code] += 1
    figure(2, f"{route}: {', '.join(f'{statuses[status]} x {status}' for status in CODES)}")
