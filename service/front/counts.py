"""Files of what fronts have counted: in one folder, read by the engine's ``Totals``, written by each front.

``prometheus_client`` maps them, and they are sparse: where a full disk has no page for one, whoever writes
to it is killed (SIGBUS). So a front takes the room before it counts anything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client import values

KINDS: Final = ("counter", "histogram")
"""Of metrics that fronts have; a file for each."""

COUNTS_BYTES: Final = 2**17
"""Room of each file; all routes with all status codes take 46 KB of histograms and 20 KB of counters."""


class CannotWrite(Exception):
    """There is no room for temporary files, or no folder for them."""


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder of files that all processes share; it is gone afterwards.

    Raises:
        CannotWrite: There is no place for it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="exitramp-")
    except OSError as error:
        raise CannotWrite(f"no folder for temporary files, see TMPDIR: {error.strerror or error}") from error
    with folder as path:
        yield Path(path)


def count_as(post: str, folder: Path) -> None:
    """Have this process count on from where the one before it at ``post`` left off; before there are metrics.

    Its files have all of their room. One for each process there has ever been would fill the disk in the end.

    Raises:
        CannotWrite: The disk is full.
    """
    name = post.replace(" ", "-")
    values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]
    for kind in KINDS:
        file_name = f"{kind}_{name}"
        if (folder / f"{file_name}.db").exists():
            continue
        partial = folder / f"{file_name}.partial"
        try:
            with partial.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, COUNTS_BYTES)
            partial.replace(folder / f"{file_name}.db")  # the engine reads all of these, also empty ones
        except OSError as error:
            partial.unlink(missing_ok=True)
            reason = f"{folder}: no room for {COUNTS_BYTES} bytes of counts, see TMPDIR: {error.strerror}"
            raise CannotWrite(reason) from error
