"""Both ends of a link in one process, and a real engine behind them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from conftest import SmallStore
from engines import BlockedExecutor
from starlette.requests import Request
from starlette.types import Message

from service.engine.loaded import LoadedModel
from service.front.classify import Classifying
from service.front.intake import Intake
from service.front.link import Link
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
