"""Messages of one turn of the event loop leave together: each call of the system yields the interpreter."""

from __future__ import annotations

import asyncio


class Sending:
    """Collects messages for a transport."""

    def __init__(self) -> None:
        """Collect until there is a transport."""
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def begin(self, transport: asyncio.Transport) -> None:
        """Send through ``transport``."""
        self._transport = transport

    def send(self, message: bytes) -> None:
        """Send ``message`` at the end of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(message)

    def _flush(self) -> None:
        messages, self._waiting = self._waiting, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(messages))
