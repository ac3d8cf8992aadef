"""A front's link with an engine: both ends in one process, and a real engine behind them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import SmallStore
from engines import BlockedExecutor
from starlette.requests import Request
from starlette.types import Message

from model_store.preprocess import InputSpec
from service.engine.loaded import LoadedModel
from service.errors import NotReady, Overloaded, ServiceError, UndecodableImage, UnknownModel
from service.failures import ClientLeft
from service.front.classify import Classifying
from service.front.intake import Intake
from service.front.link import Link, Told
from service.front.memory import SharedImages, create_memory
from service.observe import REQUEST_ID
from service.registry import Registry
from service.settings import Settings
from service.state import Service

SLOTS = 4


@dataclass
class Front:
    """A link, and what answers requests over it."""

    service: Service
    link: Link
    intake: Intake
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, body: bytes, **headers: str) -> Any:
        """The answer to one request, of a client that leaves when it is told to."""
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": raw, REQUEST_ID: "id"}
        told = False

        async def receive() -> Message:
            nonlocal told
            if told:
                await self.leaving.wait()
                return {"type": "http.disconnect"}
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        answer = await Classifying(self.service.decoder, lambda: self.link)(Request(scope, receive))
        return json.loads(bytes(answer.body))


@asynccontextmanager
async def linked(store: SmallStore, **more: Any) -> AsyncIterator[Front]:
    settings = Settings(
        model_store=store.root, models=("small",), executor="torch", recheck_share=0, brownout=False, **more
    )
    service = Service(settings)
    await service.load()
    descriptor = create_memory(SLOTS)
    link = Link(SharedImages(descriptor, writable=True))
    intake = Intake(service, SharedImages(descriptor, writable=False))
    service.arriving = lambda: intake.arriving
    os.close(descriptor)
    loop = asyncio.get_running_loop()
    ends = socket.socketpair(socket.AF_UNIX)
    transports = [
        (await loop.create_unix_connection(lambda protocol=protocol: protocol, sock=end))[0]  # type: ignore[misc]
        for protocol, end in zip((link, intake), ends, strict=True)
    ]
    try:
        yield Front(service, link, intake)
    finally:
        for transport in transports:
            transport.close()
        await asyncio.sleep(0)
        await service.close()


async def settled(front: Front) -> None:
    """Wait until nothing is on its way."""
    for _ in range(1000):
        if not front.link._pending and not front.intake._tasks:
            break
        await asyncio.sleep(0.002)
    assert front.service.loaded()[1].admission.in_flight == 0
    assert front.intake.arriving == 0


def blocked(front: Front, store: SmallStore) -> BlockedExecutor:
    """Have the device hold every launch."""
    executor = BlockedExecutor(store)
    model = LoadedModel(store.artifact.manifest, executor)
    front.service.lifecycle.registry = Registry({model.key: model}, "small")
    return executor


async def held(
    front: Front, store: SmallStore, image: bytes, requests: int
) -> tuple[BlockedExecutor, list[asyncio.Future[Any]]]:
    """So many requests that are in the engine, on a device that holds them."""
    await front.ask(image)
    executor = blocked(front, store)
    asking = [asyncio.ensure_future(front.ask(image)) for _ in range(requests)]
    while front.service.loaded()[1].admission.in_flight < requests:
        await asyncio.sleep(0.001)
    return executor, asking


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
