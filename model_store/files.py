"""Files of artifacts: written whole and on the disk before anybody can find them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from model_store.verify import NotWritten


def write_synced(path: Path, content: bytes) -> None:
    """Write a file, and return once it is on the disk.

    Raises:
        OSError: There is no room for it, or nobody may write it.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_files(folder: Path, contents: Mapping[str, bytes], withdrawn: str | None = None) -> None:
    """Put files in place of those in ``folder``, one after the other, once all of them are written.

    Args:
        folder: Where they are.
        contents: By name; the last one comes last.
        withdrawn: A file without which nobody looks at the others: it is away while they are replaced.

    Raises:
        NotWritten: There is no room for them; all is as it was.
    """
    partials = {folder / f"{name}.partial": folder / name for name in contents}
    try:
        for partial, content in zip(partials, contents.values(), strict=True):
            write_synced(partial, content)
    except OSError as error:
        for partial in partials:
            partial.unlink(missing_ok=True)
        raise NotWritten(f"{folder}: {error.strerror}; what was there stays") from error
    if withdrawn is not None:
        (folder / withdrawn).unlink(missing_ok=True)
    for partial, path in partials.items():
        os.replace(partial, path)
