"""How processes of the service start others: each a fresh interpreter that imports what it needs."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from service.settings import Settings, environment


def command(module: str, *arguments: object) -> list[str]:
    """Runs ``module``; the working directory is no place to import from (-P)."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def inherited(**more: str) -> dict[str, str]:
    """The environment of such a process, which imports from where this one does, with ``more`` in it."""
    return environment(PYTHONPATH=os.pathsep.join(path for path in sys.path if path), **more)


def become_supervisor(settings: Settings) -> NoReturn:
    """Replace this process by the supervisor: it lives long and needs nothing of what was imported."""
    # Neither arguments nor environment: both can be seen by others. In memory: a disk can be full.
    descriptor = os.memfd_create("exitramp-settings", 0)
    with os.fdopen(descriptor, "w+b") as file:
        file.write(settings.model_dump_json().encode())
        file.seek(0)
        told = command("service.front.supervisor", descriptor)
        os.execve(sys.executable, told, inherited())  # noqa: S606 - arguments of our own, no shell
