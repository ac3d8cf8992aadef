"""The process: uvicorn around the application, with guarded connections and a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from types import FrameType

import uvicorn

from service.app import create_app
from service.process import prepare_process
from service.settings import Settings
from service.state import Service

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that wait to be accepted, at most."""


class Server(uvicorn.Server):
    """Uvicorn's server that sleeps when idle, and tells the application when it begins to drain."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        """Serve the application of ``config``, whose shared state is ``service``."""
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes ten times a second, ours never."""
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        if not self.should_exit:  # a signal may have come before
            await self._ended.wait()

    def end(self) -> None:
        """Shut down; callable from a signal handler."""
        self.should_exit = True
        if self._ended is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or SIGINT: refuse new work at once, finish open requests; a second SIGINT cuts them off.

        Unlike uvicorn's, the signal is not raised again afterwards, so that a clean end has exit code 0.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self._service.draining = True
        logger.info("draining", extra={"signal": signal.Signals(sig).name})
        self.end()


def serve(settings: Settings) -> str | None:
    """Serve until a signal ends it.

    Args:
        settings: All settings.

    Returns:
        ``None`` after a clean end, else one line that says why the server could not go on.
    """
    prepare_process(settings.log_level)
    failure: list[str] = []

    def on_failure(error: Exception) -> None:
        failure.append(str(error) or type(error).__name__)
        server.end()

    app = create_app(settings, on_failure)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="service.protocol:GuardedProtocol",
        ws="none",
        access_log=False,
        server_header=False,
        date_header=False,  # see service.observe
        log_config=None,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = Server(config, app.state.service)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        return f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
    host, port = listener.getsockname()[:2]
    logger.info("listening", extra={"url": f"http://{host}:{port}", "models": list(settings.models)})
    server.run(sockets=[listener])
    return failure[0] if failure else None


def _listen(host: str, port: int) -> socket.socket:
    """Listen before anything slow starts: a taken port is one clear line, and who comes early waits."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    return listener
