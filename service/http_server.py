"""Uvicorn as every process of the service runs it: guarded connections, asleep when idle, a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Literal, cast

import uvicorn
from starlette.types import ASGIApp

from service.protocol import GuardedProtocol
from service.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that wait to be accepted, at most."""

LAST_CALL_S = 0.25
"""How long after the end has come a request that is read is still answered, seconds: by then all is read that
was sent before, and clients that ask one request after the other have met an answer that is the last."""

UNREAD_S = 30
"""How long a client may take nothing of what it has been sent, seconds; then the system ends the connection.
The event loop cannot: what closes waits until all is sent."""

KEEP_ALIVE_S = 75
"""How long a client's connection may be idle, seconds."""


class Server(uvicorn.Server):
    """Uvicorn's server that sleeps when idle, and tells the application when it begins to drain."""

    def __init__(self, config: uvicorn.Config, on_draining: Callable[[], None]) -> None:
        """Serve the application of ``config``; ``on_draining`` makes it refuse new work."""
        super().__init__(config)
        self._on_draining = on_draining
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes ten times a second, ours never."""
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        if not self.should_exit:  # a signal may have come before
            await self._ended.wait()

    def end(self) -> None:
        """Answer what clients have sent by now, then refuse, and end; callable from a signal handler."""
        self.should_exit = True
        if self._ended is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and lose nobody who has come: no connection, and no request.

        The system completes connections and takes requests that nobody here has read yet; to close resets
        them. So what is there is accepted, read and answered, and each answer says that it is the last.
        """
        accepted = [connection for listener in sockets or [] for connection in _accept_all(listener)]
        for server in self.servers:  # at once: who comes between is reset
            server.close()
        for connection in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(0)  # what the loop itself accepted a moment ago is in the set now
        for protocol in self.server_state.connections:
            cast(GuardedProtocol, protocol).end_soon()
        if self.server_state.connections and not self.force_exit:
            await asyncio.sleep(LAST_CALL_S)
            await asyncio.sleep(0)  # a loop that is late reads what has come meanwhile
        self._on_draining()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        kind = cast(type[GuardedProtocol], self.config.http_protocol_class)
        return kind(self.config, self.server_state, self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or SIGINT: end; a second SIGINT cuts open requests off.

        Unlike uvicorn's, the signal is not raised again afterwards, so that a clean end has exit code 0.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        logger.info("draining", extra={"signal": signal.Signals(sig).name})
        self.end()


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait for it."""
    listener.setblocking(False)
    accepted = []
    with suppress(OSError):  # there is none left
        while True:
            accepted.append(listener.accept()[0])
    return accepted


def configure(
    app: ASGIApp, settings: Settings, keep_alive_s: int = KEEP_ALIVE_S, lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    """How uvicorn runs ``app``; it listens where it is told when it is run."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="service.protocol:GuardedProtocol",
        ws="none",
        lifespan=lifespan,
        access_log=False,
        proxy_headers=False,  # nobody asks for the client's address, and to look for it costs 50 µs a request
        server_header=False,
        date_header=False,  # see service.observe
        log_config=None,
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s - LAST_CALL_S,  # type: ignore[arg-type]  # it may
    )


def listen(settings: Settings) -> socket.socket:
    """Listen before anything slow starts: a taken port is one clear line, and who comes early waits.

    Raises:
        CannotListen: The address cannot be had.
    """
    return _listen(settings.host, settings.port)


def listen_for_metrics(settings: Settings) -> list[socket.socket]:
    """Where ``/metrics`` has a port of its own, a socket that listens there.

    Raises:
        CannotListen: The address cannot be had.
    """
    return [] if settings.metrics_port is None else [_listen(settings.host, settings.metrics_port)]


def _listen(host: str, port: int) -> socket.socket:
    listener = _socket(host, socket.SO_REUSEADDR)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _socket(host: str, *options: int) -> socket.socket:
    """One to listen with on ``host``; what is accepted inherits its options."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for option in options:
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)
    return listener


def announce(address: tuple[str, int], settings: Settings) -> None:
    """Log where clients are taken from now on: the first line of every server's log."""
    host, port = address
    shown = f"[{host}]" if ":" in host else host
    logger.info("listening", extra={"url": f"http://{shown}:{port}", "models": list(settings.models)})


def listen_beside(address: tuple[str, int], at_once: bool = True) -> socket.socket:
    """One of several sockets on ``address``, over which the system spreads connections evenly.

    Who shares one socket takes what he can get: of 32 connections one of two processes had 29. Nobody is sent
    to a socket that does not listen ``at_once`` before the process that inherits it does.
    """
    listener = _socket(address[0], socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    listener.bind(address)
    if at_once:
        listener.listen(BACKLOG)
    return listener


class CannotListen(Exception):
    """The address is taken, or not one of this machine."""
