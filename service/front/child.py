"""What all processes under a supervisor have in common."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from service.front.control import Control
from service.http_server import Server
from service.settings import Settings


class ChildServer(Server):
    """A server that ends when the supervisor says so, and by no signal of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class Beginning(NamedTuple):
    """What the supervisor hands over.

    Attributes:
        control: The way to it.
        post: Name of the post.
        settings: All of them.
        folder: Of files that all processes share.
        engine_up: Whether there is an engine to be linked with.
    """

    control: Control
    post: str
    settings: Settings
    folder: Path
    engine_up: bool


def begin() -> Beginning:
    """Take over from the supervisor."""
    for ending in (signal.SIGTERM, signal.SIGINT):  # a group's processes get them, too, and all at once
        signal.signal(ending, signal.SIG_IGN)
    control = Control(socket.socket(fileno=int(sys.argv[1])))
    said, _ = control.hear()
    if said is None:
        sys.exit(1)
    settings = Settings.model_validate_json(said["settings"])
    return Beginning(control, said["post"], settings, Path(said["folder"]), said["engine_up"])


def orphaned() -> None:
    """The supervisor has gone without a word: end at once."""
    os._exit(1)
