"""The process that owns the device: ``python -m service.front.engine_process``, started by the supervisor."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path

import uvloop

from service.app import create_app
from service.front.child import ChildServer, begin, orphaned
from service.front.control import Control, Said
from service.front.intake import Intake
from service.front.memory import SharedImages
from service.front.proxy import SOCKET_NAME
from service.front.totals import Totals
from service.http_server import BACKLOG, CannotListen, configure, listen_for_metrics
from service.keys import KeysFileError
from service.process import end_at_once, prepare_process
from service.settings import Settings
from service.state import Service

FOREVER_S = 10**9
"""How long an idle connection of a front's is kept: it is never the engine that closes one, or the next
request could meet a connection that is about to end."""


class EngineProcess:
    """The whole application, on a Unix socket and for the links of fronts."""

    def __init__(self, control: Control, settings: Settings, folder: Path) -> None:
        """Take over what the supervisor has prepared.

        Raises:
            KeysFileError: The keys file cannot be used.
            CannotListen: The port for metrics cannot be had.
        """
        self._control, self._folder = control, folder
        self._metrics_listeners = listen_for_metrics(settings)
        prepare_process(settings.log_level)
        app = create_app(settings, self._fail, self._ready)
        self._service: Service = app.state.service
        self._service.metrics_page = Totals(self._service.metrics.registry, self._folder).page
        self._service.on_lost = end_at_once
        self._service.arriving = lambda: sum(intake.arriving for intake in self._intakes)
        self._intakes: set[Intake] = set()
        self._server = ChildServer(configure(app, settings, FOREVER_S), self._service.drain)

    async def run(self) -> None:
        """Serve until the supervisor says that it is the end."""
        listener = _listen(self._folder / SOCKET_NAME)
        self._control.listen(self._heard, self._orphaned)
        self._control.say({"up": True})
        await self._server.serve(sockets=[listener, *self._metrics_listeners])

    def _heard(self, said: Said, descriptors: list[int]) -> None:
        if "link" in said:
            end, images = descriptors
            self._linking = asyncio.ensure_future(self._link(socket.socket(fileno=end), images))
        elif "ping" in said:
            self._control.say({"pong": True})
        elif "end" in said:
            self._server.end()

    async def _link(self, end: socket.socket, images: int) -> None:
        intake = Intake(self._service, SharedImages(images, writable=False), self._intakes.discard)
        os.close(images)
        self._intakes.add(intake)
        await asyncio.get_running_loop().create_unix_connection(lambda: intake, sock=end)

    def _ready(self) -> None:
        self._control.say({"ready": True})

    def _fail(self, error: Exception) -> None:
        self._control.say({"failed": str(error) or type(error).__name__})
        self._server.end()

    def _orphaned(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        orphaned()


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # of an engine before this one
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    return listener


def main() -> None:
    """Run until the end."""
    control, _, settings, folder, _ = begin()
    try:
        process = EngineProcess(control, settings, folder)
    except (KeysFileError, CannotListen) as error:
        control.say({"failed": str(error)})
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(process.run())


if __name__ == "__main__":
    main()
