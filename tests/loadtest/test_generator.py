"""The generator: who waits for whom, what is sent, and from when a latency counts."""

from __future__ import annotations

import asyncio
import random
import statistics
from itertools import pairwise

import pytest
from aiohttp import web
from fake_service import listening, well

from loadtest.errors import LoadTestError
from loadtest.generator import Run, Sample, Sender, closed_loop, open_loop, open_session
from loadtest.images import Picture

DOG = (Picture(b"a dog", "1"),)
RATE = 500.0


def test_latency_counts_from_the_moment_in_which_a_request_was_due() -> None:
    late = Sample(due_s=1.0, sent_s=1.5, done_s=2.0)
    assert (late.seconds, late.lag_s) == (1.0, 0.5)
    early = Sample(due_s=1.0, sent_s=0.75, done_s=2.0)
    assert (early.seconds, early.lag_s) == (1.25, 0.0)
    never = Sample(due_s=1.0, done_s=2.0)
    assert (never.seconds, never.lag_s) == (1.0, 0.0)


async def test_an_open_loop_goes_on_while_the_service_stalls_and_counts_the_whole_wait() -> None:
    """The tenth request is answered when sixty have come; users who wait for answers never send them."""
    arrived, enough = 0, asyncio.Event()

    async def stalling(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived >= 60:
            enough.set()
        elif arrived >= 10:
            await enough.wait()
        return await well(request)

    async with listening(stalling) as url, open_session(url, 1000) as session:
        run = await open_loop(Sender(session, DOG, {}), RATE, 0.4, random.Random(0))
    due_s = sorted(sample.due_s for sample in run.samples)
    before = [sample for sample in run.samples if sample.due_s < due_s[59]]
    assert len(due_s) > 100 and {sample.status for sample in run.samples} == {"200"}
    # Fifty wait; on a busy machine a few of them may arrive in another order than they were due.
    assert sum(sample.seconds >= due_s[59] - sample.due_s for sample in before) >= 40


async def test_arrivals_are_those_of_a_poisson_process_and_repeat_with_the_seed() -> None:
    runs: list[Run] = []
    async with listening(well) as url, open_session(url, 1000) as session:
        for _ in range(2):
            runs.append(await open_loop(Sender(session, DOG, {}), RATE, 0.6, random.Random(0)))
    due_s = [sorted(sample.due_s for sample in run.samples) for run in runs]
    gaps_s = [[b - a for a, b in pairwise(times)] for times in due_s]
    assert gaps_s[0] == pytest.approx(gaps_s[1], abs=1e-6)
    mean_s = statistics.fmean(gaps_s[0])
    assert mean_s == pytest.approx(1 / RATE, rel=0.1)
    assert statistics.stdev(gaps_s[0]) == pytest.approx(mean_s, rel=0.15)  # as for no even beat


async def test_a_closed_loop_never_has_more_under_way_than_it_has_connections() -> None:
    under_way, most = 0, 0

    async def counting(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)  # lets the others in
        under_way -= 1
        return await well(request)

    async with listening(counting) as url, open_session(url, 1000) as session:
        run = await closed_loop(Sender(session, DOG, {}), 4, 0.2)
    assert most <= 4 < len(run.samples)
    assert all(sample.lag_s < sample.seconds for sample in run.samples)
    assert 0 < run.cpu_s <= 2 * run.seconds


@pytest.mark.parametrize("closed", [False, True])
async def test_rates_are_those_of_the_time_in_which_requests_are_sent(closed: bool) -> None:
    """The third request is answered half a second after the last one has left."""
    arrived, enough = 0, asyncio.Event()

    async def sticking(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == 3:
            asyncio.get_running_loop().call_later(0.75, enough.set)
            await enough.wait()
        return await well(request)

    async with listening(sticking) as url, open_session(url, 1000) as session:
        sender = Sender(session, DOG, {})
        run = await (
            closed_loop(sender, 4, 0.25) if closed else open_loop(sender, RATE, 0.25, random.Random(0))
        )
    assert 0.25 <= run.seconds < 0.7 and run.seconds + run.drain_s > 0.75
    assert run.samples[-1].seconds > 0.7 and len(run.in_time) < len(run.samples)
    assert run.cpu_s <= 1.5 * run.seconds


async def test_a_run_lasts_as_long_as_it_was_told_also_when_all_is_answered_before() -> None:
    async with listening(well) as url, open_session(url, 1000) as session:
        run = await open_loop(Sender(session, DOG, {}), 0.001, 0.2, random.Random(0))
    assert len(run.samples) == len(run.in_time) == 1
    assert run.seconds >= 0.2 and run.drain_s == 0.0


async def test_pictures_go_in_turn_and_each_answer_is_held_against_its_own() -> None:
    sent: list[tuple[bytes, str | None]] = []

    async def noting(request: web.BaseRequest) -> web.StreamResponse:
        sent.append((await request.read(), request.headers.get("X-FLOP-Budget")))
        return await well(request)

    pictures = [Picture(b"a cat", "cat"), Picture(b"a dog", "dog"), Picture(b"a dog too", "1"), Picture(b"?")]
    async with listening(noting) as url, open_session(url, 10) as session:
        sender, run = Sender(session, pictures, {"X-FLOP-Budget": "2k", "X-Model": ""}), Run()
        for _ in range(5):
            await sender.send(run, 0.0)
    assert sent == [(picture.content, "2k") for picture in (*pictures, pictures[0])]
    assert [sample.right for sample in run.samples] == [False, True, True, None, False]
    assert [sample.picture for sample in run.samples] == [*pictures, pictures[0]]


async def test_refusals_nonsense_and_lost_connections_are_kept_apart() -> None:
    async def failing(request: web.BaseRequest) -> web.StreamResponse:
        number = int(await request.read())
        if number == 2:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(
            status=(503, 200, 500)[number], headers={"Retry-After": "1"} if number == 0 else {}, text="[]"
        )

    pictures = [Picture(b"%d" % number) for number in range(3)]
    async with listening(failing) as url, open_session(url, 10) as session:
        sender, run = Sender(session, pictures, {}), Run()
        for _ in pictures:
            await sender.send(run, 0.0)
    assert [sample.status for sample in run.samples] == ["503", "unreadable", "ServerDisconnectedError"]
    assert [sample.retry_after for sample in run.samples] == [True, False, False]
    assert not any(sample.prediction for sample in run.samples)


async def test_what_is_no_url_is_said() -> None:
    with pytest.raises(LoadTestError, match="'nowhere' is no URL"):
        open_session("nowhere", 1)
