"""What Ray Serve's proxies do when a replica dies: the proxy itself is played."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from deploy.ray import retry
from deploy.ray.retry import ATTEMPTS, KEPT_BYTES, Retry

HEAD: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"x-request-id", b"own"),
        (b"date", b"now"),
        (b"x-flops", b"1"),
        (b"x-request-id", b"added"),
    ],
}


class Proxy:
    """Answers with the size of the body at the last attempt; before, each replica dies in its own way."""

    def __init__(self, *deaths: Callable[[Send], Awaitable[None]]) -> None:
        self._deaths = list(deaths)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        if self._deaths:
            await self._deaths.pop(0)(send)
            return
        await send(HEAD)
        await send({"type": "http.response.body", "body": str(len(body)).encode()})


async def silently(send: Send) -> None:
    """Serve's proxy returns without an answer."""


async def after_the_head(send: Send) -> None:
    await send({**HEAD, "status": 500})


async def after_an_event(send: Send) -> None:
    await send(HEAD)
    await send({"type": "http.response.body", "body": b"first", "more_body": True})


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_S", 0)


async def ask(proxy: Proxy, body: bytes = b"image") -> httpx.Response:
    transport = httpx.ASGITransport(Retry(proxy))
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
        return await client.post("/classify", content=body)


@pytest.mark.parametrize("deaths", [(), (silently,), (after_the_head,), (silently, after_the_head)])
async def test_another_replica_gets_the_same_request(
    deaths: tuple[Callable[[Send], Awaitable[None]]],
) -> None:
    proxy = Proxy(*deaths)
    answer = await ask(proxy)
    assert (answer.status_code, answer.text) == (200, "5")
    assert proxy.bodies == [b"image"] * (len(deaths) + 1)


async def test_a_request_that_kills_its_replicas_does_not_go_through_all_of_them() -> None:
    proxy = Proxy(*[silently] * 9)
    answer = await ask(proxy)
    assert answer.status_code == 503
    assert answer.json()["code"] == "not_ready" and answer.headers["retry-after"] == "1"
    assert len(proxy.bodies) == ATTEMPTS


async def test_what_the_client_has_seen_cannot_begin_anew() -> None:
    proxy = Proxy(after_an_event)
    assert [message.get("body") for message in await answered(proxy)] == [None, b"first"]
    assert len(proxy.bodies) == 1


async def test_a_body_too_long_to_keep_is_sent_once() -> None:
    proxy = Proxy(silently)
    long = {"type": "http.request", "body": b"x" * (KEPT_BYTES + 1)}
    assert await answered(proxy, long) == []  # the server makes a 500 of it
    assert len(proxy.bodies) == 1


async def test_nobody_is_asked_again_for_a_client_that_has_left() -> None:
    proxy = Proxy(silently)
    assert await answered(proxy, {"type": "http.disconnect"}) == []
    assert len(proxy.bodies) == 1


async def answered(proxy: Proxy, received: Message | None = None) -> list[Message]:
    """What reaches the server, complete or not."""
    sent: list[Message] = []

    async def receive() -> Message:
        return received or {"type": "http.request", "body": b"image"}

    async def send(message: Message) -> None:
        sent.append(message)

    await Retry(proxy)({"type": "http", "path": "/classify"}, receive, send)
    return sent


async def test_headers_that_proxy_and_service_both_set_come_once() -> None:
    answer = await ask(Proxy())
    assert answer.headers.get_list("x-request-id") == ["own"]
    assert "date" not in answer.headers  # the proxy's server has put it there already
    assert answer.headers["x-flops"] == "1"
