"""Processor cores of a replica's own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

Claim = socket.socket
"""Holds a core until it is closed, at the latest by the end of the process."""


def claim_cores(count: int) -> list[Claim]:
    """Move this process to ``count`` cores that no other process of this machine has claimed.

    The claim is the name of a socket that nobody connects to: unlike a file it cannot be left behind,
    whatever ends the process. Linux only.

    Args:
        count: How many.

    Returns:
        The claims; keep them.

    Raises:
        RuntimeError: Fewer are free.
    """
    claims: dict[int, Claim] = {}
    for core in sorted(os.sched_getaffinity(0)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0exitramp-core-{core}")
        except OSError:
            claim.close()
            continue
        claims[core] = claim
        if len(claims) == count:
            break
    else:
        raise RuntimeError(f"{count} processor cores wanted, {len(claims)} are free of other replicas")
    for thread in Path("/proc/self/task").iterdir():  # Ray has started some; new ones inherit
        os.sched_setaffinity(int(thread.name), claims)
    return list(claims.values())
