"""Traces: made, kept, scaled, and sent as they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web
from fake_service import answer, listening, prediction

from loadtest.errors import LoadTestError
from loadtest.generator import open_session
from loadtest.images import Picture
from loadtest.trace import (
    BURST_S,
    EVERY_S,
    MIX,
    Arrival,
    mixed,
    read_trace,
    row_range,
    scaled,
    send,
    write_trace,
)


def test_mixed_traffic_has_its_rate_its_bursts_and_every_kind_of_request() -> None:
    arrivals = mixed(rate=500, seconds=40, rows=7, seed=0)
    assert len(arrivals) == pytest.approx(20_000, rel=0.05)
    burst = [one for one in arrivals if one.arrival_s % EVERY_S < BURST_S]
    share = BURST_S / EVERY_S
    assert len(burst) / len(arrivals) == pytest.approx(3 * share / (1 + 2 * share), rel=0.1)
    assert {one.row for one in arrivals} == set(range(7))
    kinds = {(one.budget, one.limit, one.deadline_ms) for one in arrivals}
    assert len(kinds) == len({tuple(sorted(kind.items())) for kind in MIX})
    assert arrivals == mixed(rate=500, seconds=40, rows=7, seed=0) != mixed(500, 40, 7, seed=1)


def test_a_trace_is_what_was_written(tmp_path: Path) -> None:
    arrivals = [Arrival(0.0, 3, budget=25e6), Arrival(1.5, 0, limit=1e6, deadline_ms=20.0)]
    write_trace(arrivals, tmp_path / "trace.jsonl")
    assert read_trace(tmp_path / "trace.jsonl") == arrivals
    assert json.loads((tmp_path / "trace.jsonl").read_text().splitlines()[0]) == {
        "arrival_s": 0.0,
        "row": 3,
        "budget": 25e6,
    }
    assert [one.arrival_s for one in scaled(arrivals, rate=8)] == [0.0, 0.25]


@pytest.mark.parametrize(
    "lines", ['{"arrival_s": 0, "row": 0}', '{"arrival_s": 0}\n{"row": 1}', "[]\n[]", '{"when": 0}\n', "no"]
)
def test_what_is_no_trace_is_refused_with_its_line(tmp_path: Path, lines: str) -> None:
    place = tmp_path / "trace.jsonl"
    place.write_text(lines)
    with pytest.raises(LoadTestError, match=r"trace\.jsonl"):
        read_trace(place)


def test_rows_are_named_as_a_slice() -> None:
    assert row_range("45000:50000") == (45000, 50000) and row_range("5:") == (5, None)
    with pytest.raises(ValueError, match="7"):
        row_range("7")


async def test_each_request_is_sent_when_it_is_due_with_its_row_and_what_it_asks() -> None:
    seen: list[tuple[bytes, str | None, str | None]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        seen.append((body, request.headers.get("X-FLOP-Budget"), request.headers.get("X-Deadline-Ms")))
        return web.Response(body=json.dumps(answer(prediction())).encode())

    arrivals = [Arrival(0.0, 1, budget=25e6), Arrival(0.05, 0, deadline_ms=20.0)]
    async with listening(handle) as url, open_session(url, 4) as session:
        run, samples = await send(session, arrivals, [Picture(b"zero"), Picture(b"one")])
    assert seen == [(b"one", "25000000", None), (b"zero", None, "20")]
    assert samples[1].due_s - samples[0].due_s == pytest.approx(0.05)
    assert [sample.status for sample in samples] == ["200", "200"] and len(run.samples) == 2
