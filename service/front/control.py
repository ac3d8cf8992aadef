"""What the supervisor and its processes tell each other: JSON over a pair of sockets, with descriptors.

Each message is one packet. The end of the pair means that the other process has ended, however it did.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import orjson

PACKET_BYTES = 2**16
DESCRIPTORS = 4

Said = dict[str, Any]


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Control:
    """One end of the pair."""

    def __init__(self, end: socket.socket) -> None:
        """Own ``end``."""
        self._end = end

    def say(self, said: Said, descriptors: tuple[int, ...] = ()) -> None:
        """Tell the other process; it gets copies of ``descriptors``. Nothing happens if it has ended."""
        try:
            socket.send_fds(self._end, [orjson.dumps(said)], descriptors)
        except OSError:
            return  # whoever watches it will say so

    def hear(self) -> tuple[Said | None, list[int]]:
        """Wait for the next message; ``None`` if the other process has ended."""
        try:
            text, descriptors, _, _ = socket.recv_fds(self._end, PACKET_BYTES, DESCRIPTORS)
        except ConnectionResetError:
            return None, []
        return (orjson.loads(text) if text else None), descriptors

    def listen(self, heard: Callable[[Said, list[int]], None], ended: Callable[[], None]) -> None:
        """Call ``heard`` on the running event loop for each message, and ``ended`` at the end."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            said, descriptors = self.hear()
            if said is None:
                self.close()
                ended()
            else:
                heard(said, descriptors)

        loop.add_reader(self._end, read)

    def close(self) -> None:
        """Stop listening."""
        if self._end.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._end)
            self._end.close()
