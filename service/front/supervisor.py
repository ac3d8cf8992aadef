"""The first process: owns the listening sockets; starts, links, watches and ends all others.

It sleeps until something happens: a signal, the end of a process, or a word of one; now and then it asks each
whether it is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.front.children import Child, Post, start
from service.front.control import Said
from service.front.counts import CannotWrite, shared_folder
from service.front.memory import MOST_SLOTS, create_memory
from service.http_server import CannotListen, announce, listen, listen_beside
from service.logs import configure_logs
from service.settings import Settings

logger = logging.getLogger("service.front.supervisor")  # it is run as __main__

PAUSES_S = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Waits before a process is started again: the first time, the second time in a row, and so on; seconds."""

STEADY_S = 30.0
"""Who has run for so long begins at the first pause again, seconds."""

CLOSING_S = 5.0
"""What a process may take to end, beyond the grace for open requests, seconds."""


PERIODS = 3
"""Of ``launch_timeout_s``: in each a process is asked once whether it is there, and replaced after that many
in which it has not answered."""


class CannotStart(Exception):
    """A process has ended before one in its place could ever do its work."""


class Supervisor:
    """Keeps one engine and several fronts alive."""

    def __init__(self, settings: Settings, address: tuple[str, int], folder: Path) -> None:
        """Serve clients of ``address``; ``folder`` is for files of the processes."""
        self._settings, self._address, self._folder = settings, address, folder
        self._engine = Post("engine", "service.front.engine_process")
        # What fronts count outlives them, see service.front.totals.
        counting = {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
        self._fronts = [
            Post(f"worker {i}", "service.front.worker", counting, listen_beside(address))
            for i in range(1, settings.http_workers + 1)
        ]
        self._ending = asyncio.Event()

    def heed_signals(self) -> None:
        """End with SIGTERM and SIGINT; to be called within the loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    async def run(self) -> None:
        """Serve until a signal.

        Raises:
            CannotStart: A process ended before one in its place was ever ready.
        """
        keeping = [asyncio.ensure_future(self._keep(post)) for post in (self._engine, *self._fronts)]
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait((*keeping, ending), return_when=asyncio.FIRST_COMPLETED)
        self._ending.set()
        for post in self._fronts:
            post.stop_listening()
        await self._finish(self._fronts)
        await self._finish([self._engine])
        await ending
        await asyncio.gather(*keeping)

    def _signalled(self, number: signal.Signals) -> None:
        """Drain; a second SIGINT cuts open requests off."""
        if self._ending.is_set() and number == signal.SIGINT:
            for post in (*self._fronts, self._engine):
                post.kill()
            return
        logger.info("draining", extra={"signal": number.name})
        self._ending.set()

    async def _keep(self, post: Post) -> None:
        """Have a process at ``post`` until the end."""
        row = 0
        while not self._ending.is_set():
            started_s = time.monotonic()
            try:
                died = await self._live(post)
            except OSError as error:  # no room for a process or a socket: perhaps later
                if not post.proven:
                    raise CannotStart(f"the {post.name} process cannot be started: {error}") from error
                died = {"failure": f"cannot be started: {error}"}
            if self._ending.is_set():
                return
            row = 0 if time.monotonic() - started_s > STEADY_S else row
            pause_s = PAUSES_S[min(row, len(PAUSES_S) - 1)]
            row += 1
            event = "engine_died" if post is self._engine else "worker_died"
            logger.error(event, extra={"child": post.name, **died, "restart_in_s": pause_s})
            if pause_s > 0:
                post.stop_listening()  # who comes is for others; before, he would wait for the next process
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause_s)

    async def _live(self, post: Post) -> dict[str, Any]:
        """Have one process at ``post`` from its start to its end; how that was.

        Raises:
            CannotStart: It ended before one in its place was ever ready.
            OSError: It could not be started.
        """
        if post is not self._engine and post.listener is None:
            # It may fail as the last one did: who comes is for others until it is there.
            post.listener = listen_beside(self._address, at_once=False)
        engine_up = self._engine.child is not None and self._engine.child.up
        child = await start(post, self._settings, self._folder, self._heard, engine_up)
        if self._ending.is_set():
            child.process.kill()  # it has not begun
        watching = asyncio.ensure_future(self._watch(post, child))
        code = await child.ended()
        watching.cancel()
        if not post.proven and not self._ending.is_set():
            how = f"the {post.name} process ended with code {code} before it was ready"
            raise CannotStart(child.failure or how)
        failure = {} if child.failure is None else {"failure": child.failure}
        return {"pid": child.process.pid, "code": code, **failure}

    async def _watch(self, post: Post, child: Child) -> None:
        """Kill a process that does nothing any more: it has no way to tell.

        Periods are counted, not seconds: where all processes were frozen together nobody has missed anything.
        """
        missed, period_s = 0, self._settings.launch_timeout_s / PERIODS
        while missed < PERIODS:
            if child.up:
                child.ping()
            await asyncio.sleep(period_s)
            missed = 0 if child.answered else missed + 1
        silent_s = round(missed * period_s, 3)
        logger.error("child_hung", extra={"child": post.name, "pid": child.process.pid, "silent_s": silent_s})
        child.process.kill()

    def _heard(self, post: Post, child: Child, said: Said) -> None:
        if "failed" in said:
            child.failure = said["failed"]
        elif "pong" in said:
            child.answered = True
        elif "ready" in said:
            post.proven = True
        elif "up" in said:
            child.up = True
            if post is not self._engine:
                post.proven = True
                self._link(post)
            else:
                for front in self._fronts:
                    self._link(front)

    def _link(self, front: Post) -> None:
        """Give a front and the engine, if both are there, sockets and memory that are theirs alone."""
        children = [post.child for post in (self._engine, front) if post.child is not None and post.child.up]
        if len(children) < 2:
            return
        memory = create_memory(min(self._settings.max_in_flight, MOST_SLOTS))
        for child, end in zip(children, socket.socketpair(socket.AF_UNIX), strict=True):
            with end:
                child.control.say({"link": True}, (end.fileno(), memory))
        os.close(memory)

    async def _finish(self, posts: Sequence[Post]) -> None:
        """Let processes answer what is open, and end; whoever takes too long is killed."""
        patience_s = self._settings.shutdown_grace_s + CLOSING_S
        children = [post.child for post in posts if post.child is not None]
        for child in children:
            child.control.say({"end": True})
        if children:
            ends = [asyncio.ensure_future(child.process.wait()) for child in children]
            await asyncio.wait(ends, timeout=patience_s)
        for post in posts:
            post.kill()


def main() -> None:
    """Serve as the settings in the file that was handed over say; exit code 1 and one line if it cannot."""
    with open(int(sys.argv[1]), "rb") as file:
        settings = Settings.model_validate_json(file.read())
    configure_logs(settings.log_level)
    try:
        with listen(settings) as listener:  # if anybody else listens there, this finds out
            address = listener.getsockname()[:2]
        with shared_folder() as folder:
            asyncio.run(_supervise(settings, address, folder))
    except (CannotListen, CannotStart, CannotWrite) as error:
        sys.stderr.write(f"exitramp: {error}\n")
        sys.exit(1)


async def _supervise(settings: Settings, address: tuple[str, int], folder: Path) -> None:
    supervisor = Supervisor(settings, address, folder)
    supervisor.heed_signals()  # before anybody can know that there is something to end
    announce(address, settings)
    await supervisor.run()


if __name__ == "__main__":
    main()
