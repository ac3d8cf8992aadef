"""How busy NVIDIA's graphics cards are, where the service runs on one of this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_MS = 250


@contextmanager
def card_use(wanted: bool) -> Iterator[list[float]]:
    """Sample during the block; afterwards the list holds the mean use of each sample, percent of the time.

    It stays empty if not ``wanted`` or where ``nvidia-smi`` is missing.
    """
    found: list[float] = []
    program = shutil.which("nvidia-smi") if wanted else None
    if program is None:
        yield found
        return
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"]
    process = subprocess.Popen(
        [program, *query], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield found
    finally:
        process.terminate()
        lines, _ = process.communicate()
        found += [float(line) for line in lines.split() if line.isdecimal()]
