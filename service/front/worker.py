"""A front: ``python -m service.front.worker``, started by the supervisor.

Nothing here may import what knows the engine or torch: a front starts in half a second and takes little
memory.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress

import uvloop

from service.decoding import Decoder
from service.front.app import Front
from service.front.child import Beginning, ChildServer, begin, orphaned
from service.front.control import Said
from service.front.counts import CannotWrite, count_as
from service.front.link import Link
from service.front.memory import SharedImages
from service.heap import keep_heap_small
from service.http_server import configure
from service.logs import configure_logs
from service.metrics import RequestMetrics

LINK_S = 2.0
"""Longest time to wait for an engine that is up, seconds; it may have ended meanwhile."""


class Worker:
    """One front process."""

    def __init__(self, beginning: Beginning, listener: socket.socket) -> None:
        """Take over what the supervisor has prepared; clients come to ``listener``.

        Raises:
            CannotWrite: There is no room for what is counted.
        """
        self._control, post, settings, folder, self._engine_up = beginning
        configure_logs(settings.log_level)
        keep_heap_small()
        count_as(post, folder)
        metrics = RequestMetrics()
        self._decoder = Decoder(settings, metrics.decode_seconds)
        self._front = Front(settings, folder, metrics, self._decoder)
        self._server = ChildServer(configure(self._front, settings, lifespan="off"), self._front.drain)
        self._listener = listener
        self._linked = asyncio.Event()

    async def run(self) -> None:
        """Serve until the supervisor says that it is the end."""
        self._control.listen(self._heard, orphaned)
        self._control.say({"up": True})
        if self._engine_up:  # whoever comes now can be answered, if he waits a moment
            with suppress(TimeoutError):
                await asyncio.wait_for(self._linked.wait(), LINK_S)
        await self._server.serve(sockets=[self._listener])
        self._decoder.close()

    def _heard(self, said: Said, descriptors: list[int]) -> None:
        if "link" in said:
            end, images = descriptors
            self._linking = asyncio.ensure_future(self._link(socket.socket(fileno=end), images))
        elif "ping" in said:
            self._control.say({"pong": True})
        elif "end" in said:
            self._server.end()

    async def _link(self, end: socket.socket, images: int) -> None:
        link = Link(SharedImages(images, writable=True))
        os.close(images)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=end)
        self._front.link = link
        self._linked.set()


def main() -> None:
    """Run until the end."""
    beginning = begin()
    try:
        worker = Worker(beginning, socket.socket(fileno=int(sys.argv[2])))
    except CannotWrite as error:
        beginning.control.say({"failed": str(error)})
        sys.exit(1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.run())


if __name__ == "__main__":
    main()
