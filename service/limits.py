"""The limits on request bodies; plain ASGI.

FastAPI's ``max_body_size`` would do but for its answer: to a large Content-Length it is always plain text,
whatever the application says.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import TooLarge
from service.observe import REQUEST_ID
from service.problems import problem

MAX_IMAGES: Final = 64
"""Images in one request."""


class BodyLimit:
    """Refuses bodies over a number of bytes, announced (Content-Length) or not (chunked)."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        """Wrap ``app``."""
        self._app, self._limit = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced) > self._limit:
            refusal = self._too_large(f"{int(announced)} bytes")
            await problem(refusal, scope.get(REQUEST_ID), scope["path"])(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._too_large(f"more than {self._limit} bytes")
            return message

        await self._app(scope, receive_counted, send)

    def _too_large(self, size: str) -> TooLarge:
        return TooLarge(f"the body has {size}, the limit is {self._limit} bytes")
