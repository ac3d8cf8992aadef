"""Processes as their supervisor sees them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.front.control import Control, Said, control_pair
from service.front.launching import command, inherited
from service.settings import Settings


class Child:
    """A process.

    Attributes:
        process: Itself.
        control: The way to it.
        up: Whether it listens.
        answered: Whether it has answered the last ping.
        failure: Why it cannot go on, if it has said so.
    """

    def __init__(self, process: asyncio.subprocess.Process, control: Control) -> None:
        """Watch ``process``."""
        self.process, self.control = process, control
        self.up, self.answered = False, True
        self.failure: str | None = None
        self.silent = asyncio.Event()

    def ping(self) -> None:
        """Ask whether it still does anything; not again before it has answered."""
        if self.answered:
            self.answered = False
            self.control.say({"ping": True})

    async def ended(self) -> int:
        """Wait for its end, and for all that it has said until then; its exit code, or minus a signal."""
        code = await self.process.wait()
        await self.silent.wait()
        return code


@dataclass
class Post:
    """A place that always has a process.

    Attributes:
        name: As the log has it.
        module: That is run.
        environment: Beyond what everybody has.
        listener: That it inherits. It outlives the process: who comes meanwhile waits for the next one.
        child: The process, once there is one; perhaps ended.
        proven: Whether one of its processes has been ready for work.
    """

    name: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    listener: socket.socket | None = None
    child: Child | None = None
    proven: bool = False

    def kill(self) -> None:
        """End its process, if it still runs, at once."""
        if self.child is not None and self.child.process.returncode is None:
            self.child.process.kill()

    def stop_listening(self) -> None:
        """Have the system send nobody here any more; its process stops on its own."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None


async def start(
    post: Post,
    settings: Settings,
    folder: Path,
    heard: Callable[[Post, Child, Said], None],
    engine_up: bool,
) -> Child:
    """Start the process of ``post``.

    Args:
        post: Gets a new process.
        settings: For it.
        folder: Of files that all processes share.
        heard: Called with what it says.
        engine_up: Whether it can be linked with an engine at once.

    Raises:
        OSError: The system has no room for another process.
    """
    ours, theirs = control_pair()
    with theirs:
        listening = () if post.listener is None else (post.listener.fileno(),)
        given = (theirs.fileno(), *listening)
        try:
            process = await asyncio.create_subprocess_exec(
                *command(post.module, *given),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=given,
                env=inherited(**post.environment),
                start_new_session=True,  # a terminal's Ctrl-C is for the supervisor
            )
        except OSError:
            ours.close()
            raise
    child = post.child = Child(process, Control(ours))
    child.control.listen(lambda said, _: heard(post, child, said), child.silent.set)
    told = {"post": post.name, "settings": settings.model_dump_json()}
    child.control.say({**told, "folder": str(folder), "engine_up": engine_up})
    return child
