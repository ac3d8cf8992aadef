"""Passes requests on to the engine's application, as they are, over its Unix socket.

Bodies and answers stream in both directions. A client that leaves ends its connection to the engine, so that
the application notices.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import httptools
from starlette.types import Message, Receive, Scope, Send

SOCKET_NAME = "engine.sock"
"""Of the engine's socket in the folder of all processes."""

IDLE = 64
"""Connections to the engine that are kept for the next requests; more are closed."""

READ_BYTES = 2**16

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",  # answered here
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that are about one connection, RFC 9110 section 7.6.1."""


class EngineGone(Exception):
    """There is no engine, or it ended before it began to answer."""


class Proxy:
    """An ASGI application that is somewhere else."""

    def __init__(self, folder: Path) -> None:
        """Pass everything on to the engine whose socket is in ``folder``."""
        self._path = str(folder / SOCKET_NAME)
        self._idle: list[_Connection] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back.

        Raises:
            EngineGone: Nothing has been answered.
        """
        connection = await self._connection()
        sending = asyncio.ensure_future(connection.send_request(scope, receive))
        try:
            await connection.relay_answer(scope["method"] == "HEAD", send)
        finally:
            sending.cancel()
            if connection.reusable and len(self._idle) < IDLE:
                self._idle.append(connection)
            else:
                connection.close()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                connection.begin()
                return connection
            connection.close()
        try:
            return _Connection(*await asyncio.open_unix_connection(self._path))
        except OSError as error:
            raise EngineGone from error


class _Connection:
    """One connection to the engine; carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._left = False
        self.begin()

    def begin(self) -> None:
        """Be ready for a request."""
        self._sent = self._complete = False

    @property
    def open(self) -> bool:
        return not self._reader.at_eof() and not self._writer.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether request and answer have both come to their ends."""
        return self._sent and self._complete and self.open

    def close(self) -> None:
        self._writer.close()

    async def send_request(self, scope: Scope, receive: Receive) -> None:
        """Send head and body as they come, then watch the client; if it leaves, so do we."""
        headers = [(name, value) for name, value in scope["headers"] if name not in HOP_BY_HOP]
        if not any(name == b"host" for name, _ in headers):
            headers.append((b"host", b""))  # HTTP/1.0 may do without, HTTP/1.1 may not
        whole = any(name == b"content-length" for name, _ in headers)
        chunked = not whole and any(name == b"transfer-encoding" for name, _ in scope["headers"])
        if chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        lines = [b"%s: %s\r\n" % header for header in headers]
        self._writer.write(
            b"%s %s HTTP/1.1\r\n" % (scope["method"].encode(), target) + b"".join(lines) + b"\r\n"
        )
        with suppress(ConnectionError):  # whoever reads the answer will know why
            while not self._sent:
                message = await receive()
                if message["type"] != "http.request":
                    return self._leave()
                body = message.get("body", b"")
                if body:
                    self._writer.write(b"%x\r\n%s\r\n" % (len(body), body) if chunked else body)
                self._sent = not message.get("more_body", False)
                if self._sent and chunked:
                    self._writer.write(b"0\r\n\r\n")
                await self._writer.drain()
            await receive()
            self._leave()

    def _leave(self) -> None:
        """The client has left, or has its answer."""
        if not self._complete:
            self._left = True
            self.close()

    async def relay_answer(self, without_body: bool, send: Send) -> None:
        """Pass the answer on as it comes; if it breaks off, so does ours.

        Args:
            without_body: Whether it has none, whatever its headers say.
            send: Takes it.

        Raises:
            EngineGone: There is none.
        """
        answer = _Answer(without_body)
        while not answer.complete:
            try:
                data = await self._reader.read(READ_BYTES)
            except ConnectionError:
                data = b""
            if data:
                answer.parser.feed_data(data)
            elif answer.begun or self._left:
                return  # the server cuts the connection, as nothing else would tell the client
            else:
                raise EngineGone
            self._complete = answer.complete
            for message in answer.found:
                await send(message)
            answer.found.clear()


class _Answer:
    """What the parser finds, as ASGI messages; its callbacks have the names that httptools looks for."""

    def __init__(self, without_body: bool) -> None:
        self._without_body = without_body
        self._headers: list[tuple[bytes, bytes]] = []
        self.parser = httptools.HttpResponseParser(self)
        self.found: list[Message] = []
        self.begun = self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in HOP_BY_HOP:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.begun = True
        status = self.parser.get_status_code()
        self.found.append({"type": "http.response.start", "status": status, "headers": self._headers})
        if self._without_body:  # the parser would wait for it
            self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        self.found.append({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        if not self.complete:
            self.complete = True
            self.found.append({"type": "http.response.body", "body": b""})
