"""A disk of a few kilobytes or megabytes, which a test can fill."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A file system in memory.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / ".ballast"

    def fill(self, left_bytes: int = 0) -> None:
        """Take all of its room but ``left_bytes``."""
        self._ballast.write_bytes(b"\0" * (shutil.disk_usage(self.folder).free - left_bytes))

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()


@contextmanager
def mounted(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """A disk of its own in ``folder`` until the end of the block; skips where nobody may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs root, to mount a small disk: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
