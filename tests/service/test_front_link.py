"""A front's link with an engine: both ends in one process, and a real engine behind them."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from collections.abc import Callable

import pytest
from conftest import SmallStore
from linked import SLOTS, blocked, held, linked, settled

from model_store.preprocess import InputSpec
from service.errors import NotReady, Overloaded, ServiceError, UndecodableImage, UnknownModel
from service.failures import ClientLeft
from service.front.link import NUMBERS, Link, Told
from service.front.memory import SharedImages, create_memory
from service.front.wire import Kind, Wanted, packed
from service.headers import Budget

NOTHING = Budget(None, None, None)


async def test_an_image_is_asked_about_once_and_then_sent_at_once(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        assert not front.link.welcome
        first = await front.ask(png(1), x_flop_limit="100M")
        assert front.link.welcome == {""} and set(front.link.specs) == {""}
        again = await front.ask(png(1), x_flop_limit="100M")
        assert first["predictions"] == again["predictions"] and first["model"] == "small"
        await settled(front)
        assert sum(front.link._slots.take() is not None for _ in range(SLOTS + 1)) == SLOTS


async def test_many_at_once_get_their_own_answers(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        alone = [(await front.ask(png(i), x_flop_limit="100M"))["predictions"] for i in range(SLOTS)]
        for _ in range(5):
            together = await asyncio.gather(*[front.ask(png(i), x_flop_limit="100M") for i in range(SLOTS)])
            assert [one["predictions"][0]["index"] for one in together] == [one[0]["index"] for one in alone]


async def test_an_image_decoded_for_another_model_is_decoded_anew(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        right = await front.ask(png(1), x_flop_limit="100M")
        told = front.link.specs[""]
        other = InputSpec(**{**told.spec.model_dump(), "height": 16, "width": 16})
        front.link.specs[""] = Told(other.model_dump_json().encode(), other)
        assert (await front.ask(png(1), x_flop_limit="100M"))["predictions"] == right["predictions"]
        assert front.link.specs[""] == told
        await settled(front)


async def test_errors_come_back_as_what_they_are(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        with pytest.raises(UnknownModel, match="large"):
            await front.ask(png(1), x_model="large")
        with pytest.raises(UndecodableImage):
            await front.ask(png(1)[:100])
        await front.ask(png(1))
        with pytest.raises(UnknownModel):  # which comes first
            await front.ask(png(1)[:100], x_model="large")
        await settled(front)


async def test_requests_are_numbered_without_end_and_without_memory_of_those_before() -> None:
    descriptor = create_memory(1)
    link = Link(SharedImages(descriptor, writable=True))
    os.close(descriptor)
    wanted = Wanted(0.0, NOTHING, request_id="id")

    async def ask() -> int:
        number, future = link.send(Kind.ASK, wanted)
        await asyncio.sleep(0)  # it leaves at the end of the turn
        link.data_received(packed(Kind.GONE, number))
        assert future.result() is None
        return number

    await ask()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    assert [await ask() for _ in range(10_000)][-1] == 10_001
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000, "some 10 bytes for each"
    link._last_number = NUMBERS - 1
    assert (await ask(), await ask()) == (NUMBERS, 1)


async def test_who_leaves_is_given_up_and_its_place_is_free_again(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        executor, (asking,) = await held(front, small_store, png(1), 1)
        front.leaving.set()
        with pytest.raises(ClientLeft):
            await asking
        executor.gate.set()
        await settled(front)


async def test_for_who_has_left_before_the_engine_looks_nothing_is_computed(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        await front.ask(png(1))
        executor, told = blocked(front, small_store), front.link.specs[""]
        for _ in range(SLOTS):
            slot = front.link.take_slot()
            wanted = Wanted(time.monotonic(), NOTHING, request_id="id", slot=slot, spec=told.text)
            number, future = front.link.send(Kind.IMAGE, wanted, slot)
            front.link.cancel(number)
            assert await asyncio.wait_for(future, 5) is None
        await settled(front)
        assert executor.images == 0


async def test_a_front_that_dies_leaves_nothing_behind_in_the_engine(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        executor, asking = await held(front, small_store, png(1), 3)
        front.intake.connection_lost(None)
        executor.gate.set()
        while front.service.loaded()[1].admission.in_flight:
            await asyncio.sleep(0.001)
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_requests_in_flight_when_the_engine_dies_are_told(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        executor, asking = await held(front, small_store, png(1), 3)
        front.link.connection_lost(None)
        for one in asking:
            with pytest.raises(NotReady, match="restarted"):
                await one
        assert not front.link.open
        with pytest.raises(NotReady):
            await front.ask(png(1))
        executor.gate.set()


async def test_a_full_engine_refuses_and_the_next_request_asks_first(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store, max_in_flight=1) as front:
        executor, (asking,) = await held(front, small_store, png(1), 1)
        for _ in range(2):
            with pytest.raises(Overloaded, match="permits"):
                await front.ask(png(2))
            assert not front.link.welcome
        executor.gate.set()
        assert (await asking)["predictions"]
        assert (await front.ask(png(2)))["predictions"] and front.link.welcome == {""}


async def test_without_a_free_place_nothing_is_received(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    async with linked(small_store) as front:
        executor, asking = await held(front, small_store, png(1), SLOTS)
        with pytest.raises(Overloaded, match=f"{SLOTS} places"):
            await front.ask(png(1))
        executor.gate.set()
        assert len(await asyncio.gather(*asking)) == SLOTS


async def test_a_bug_of_the_engine_is_an_answer_that_tells_nothing(
    small_store: SmallStore, png: Callable[[int], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(small_store) as front:
        await front.ask(png(1))
        front.service.lifecycle.registry = None  # type: ignore[assignment]
        with pytest.raises(ServiceError) as raised:
            await front.ask(png(1))
        assert raised.value.code == "internal_error" and "request_failed" in caplog.text
