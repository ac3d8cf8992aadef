"""What a front passes on to the engine's application, with an engine that says what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.types import Message, Scope

from service.front.proxy import SOCKET_NAME, EngineGone, Proxy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Mine: 1\r\nConnection: keep-alive\r\n\r\nok"


@dataclass
class Engine:
    """Answers every request with ``answer``, in pieces, and then cuts the connection if it ``cuts``."""

    answer: tuple[bytes, ...] = (OK,)
    cuts: bool = False
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError):
            while head := await reader.read(2**16):
                self.requests.append(head)
                for piece in self.answer:
                    writer.write(piece)
                    await writer.drain()
                if self.cuts:
                    break
        self.ended.set()
        writer.close()


@asynccontextmanager
async def running(engine: Engine, folder: Path) -> AsyncIterator[Proxy]:
    server = await asyncio.start_unix_server(engine.serve, folder / SOCKET_NAME)
    proxy = Proxy(folder)
    try:
        yield proxy
    finally:
        for connection in proxy._idle:
            connection.close()
        await engine.ended.wait()
        server.close()
        await server.wait_closed()
        for _ in range(3):
            await asyncio.sleep(0)  # transports close in the next turns


async def ask(
    proxy: Proxy,
    body: tuple[bytes, ...] = (b"",),
    method: str = "POST",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    leaves: bool = False,
) -> list[Message]:
    """The messages of an answer, for a client that sends its body in pieces."""
    sent: list[Message] = []
    pieces = iter(body)
    left = asyncio.Event()
    count = 0

    async def receive() -> Message:
        nonlocal count
        piece = next(pieces, None)
        if piece is None:
            if not leaves:
                await left.wait()
            return {"type": "http.disconnect"}
        count += 1
        return {"type": "http.request", "body": piece, "more_body": count < len(body)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "raw_path": b"/a%20b",
        "query_string": b"c=d",
        "headers": [(b"host", b"here"), *headers],
    }
    await proxy(scope, receive, send)
    return sent


async def test_head_and_body_arrive_and_so_does_the_answer(tmp_path: Path) -> None:
    engine = Engine()
    async with running(engine, tmp_path) as proxy:
        headers = ((b"content-length", b"3"), (b"connection", b"close"), (b"expect", b"100-continue"))
        start, *body = await ask(proxy, (b"abc",), headers=headers)
    assert (start["status"], start["headers"]) == (200, [(b"content-length", b"2"), (b"x-mine", b"1")])
    assert b"".join(message["body"] for message in body) == b"ok" and not body[-1].get("more_body")
    (request,) = engine.requests
    assert request == b"POST /a%20b?c=d HTTP/1.1\r\nhost: here\r\ncontent-length: 3\r\n\r\nabc"


async def test_a_body_in_chunks_is_one_in_chunks_again(tmp_path: Path) -> None:
    engine = Engine()
    async with running(engine, tmp_path) as proxy:
        await ask(proxy, (b"abc", b"", b"x" * 16), headers=((b"transfer-encoding", b"chunked"),))
    request = b"".join(engine.requests)
    assert b"transfer-encoding: chunked\r\n" in request
    assert request.endswith(b"\r\n\r\n3\r\nabc\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n")


async def test_an_answer_passes_piece_by_piece(tmp_path: Path) -> None:
    pieces = (
        b"HTTP/1.1 200 OK\r\nTransfer-Enc",
        b"oding: chunked\r\n\r\n",
        b"2\r\nab\r\n",
        b"1\r\nc\r\n0\r\n\r\n",
    )
    async with running(Engine(pieces), tmp_path) as proxy:
        start, *body = await ask(proxy)
    assert start["headers"] == []
    assert b"".join(message["body"] for message in body) == b"abc"


async def test_connections_are_used_again_once_an_answer_is_complete(tmp_path: Path) -> None:
    engine = Engine()
    async with running(engine, tmp_path) as proxy:
        for _ in range(3):
            assert (await ask(proxy))[0]["status"] == 200
    assert engine.connections == 1 and len(engine.requests) == 3


async def test_the_answer_to_head_has_no_body_whatever_its_length_says(tmp_path: Path) -> None:
    async with running(Engine((OK.removesuffix(b"ok"),)), tmp_path) as proxy:
        start, end = await ask(proxy, method="HEAD")
    assert start["status"] == 200 and end["body"] == b""


async def test_an_engine_that_is_not_there_has_answered_nothing(tmp_path: Path) -> None:
    with pytest.raises(EngineGone):
        await ask(Proxy(tmp_path))


async def test_an_engine_that_ends_before_it_answers_has_answered_nothing(tmp_path: Path) -> None:
    async with running(Engine((), cuts=True), tmp_path) as proxy:
        with pytest.raises(EngineGone):
            await ask(proxy)


async def test_an_answer_that_breaks_off_stays_incomplete(tmp_path: Path) -> None:
    async with running(Engine((OK[:-1],), cuts=True), tmp_path) as proxy:
        messages = await ask(proxy)
    assert messages[0]["status"] == 200 and all(message.get("more_body") for message in messages[1:])


async def test_a_client_that_leaves_takes_its_connection_to_the_engine_along(tmp_path: Path) -> None:
    engine = Engine((OK[:-1],))
    async with running(engine, tmp_path) as proxy:
        messages = await ask(proxy, leaves=True)
        assert len(messages) <= 2 and not proxy._idle
        await engine.ended.wait()
