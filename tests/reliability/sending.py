"""Many requests over a few connections, and what came back for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import aiohttp
import uvloop


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        path: Where it goes.
        images: Numbers of the images in it.
        body: The image, or the parts named ``image``.
        headers: Of the request.
        route: As the metrics name it, where that is not the path.
        method: Of HTTP.
    """

    path: str = "/classify"
    images: tuple[int, ...] = ()
    body: bytes | tuple[bytes, ...] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    route: str = ""
    method: str = "POST"

    def content(self) -> bytes | aiohttp.FormData:
        """The body as it is sent."""
        if isinstance(self.body, bytes):
            return self.body
        form = aiohttp.FormData()
        for part in self.body:
            form.add_field("image", part, filename="image")
        return form


@dataclass(frozen=True)
class Came:
    """What came back."""

    asked: Asked
    request_id: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body)


def budget_headers(mean: float | None, limit: float | None) -> dict[str, str]:
    """The headers that say so."""
    numbers = {"X-FLOP-Budget": mean, "X-FLOP-Limit": limit}
    return {name: f"{value:.0f}" for name, value in numbers.items() if value is not None}


def send_all(url: str, asked: Sequence[Asked], connections: int = 32) -> list[Came]:
    """Send all, as many at a time as there are connections; each has an id of its own."""
    return uvloop.run(_send_all(url, asked, connections))


async def _send_all(url: str, asked: Sequence[Asked], connections: int) -> list[Came]:
    numbered, came = iter(enumerate(asked)), []
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def client() -> None:
            for number, one in numbered:
                request_id = f"request-{number}"
                headers = {"X-Request-Id": request_id, **one.headers}
                if isinstance(one.body, bytes):
                    headers.setdefault("Content-Type", "application/octet-stream")
                async with session.request(
                    one.method, one.path, data=one.content(), headers=headers
                ) as answer:
                    body = await answer.read()
                came.append(Came(one, request_id, answer.status, answer.headers, body))

        await asyncio.gather(*(client() for _ in range(connections)))
    return came
