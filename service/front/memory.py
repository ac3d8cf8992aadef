"""Memory that a front shares with the engine: a counter, and slots for decoded images."""

from __future__ import annotations

import mmap
import os

import numpy as np
from numpy.typing import NDArray

SLOT_BYTES = 3 * 4096 * 4096
"""The largest image that any network may take, see ``InputSpec``: no model is too large. Only what is written
takes memory."""

MOST_SLOTS = 4096
"""Places for images that one front has at most; they take addresses, if no memory."""

HEAD_BYTES = mmap.PAGESIZE


def create_memory(slots: int) -> int:
    """A file in memory with room for ``slots`` images; returns its descriptor.

    Not ``multiprocessing.shared_memory``: that lives in /dev/shm, of which a container has 64 MB, has a name
    that outlives who dies, and starts a process of its own to prevent that.
    """
    descriptor = os.memfd_create("exitramp-images")
    os.ftruncate(descriptor, HEAD_BYTES + slots * SLOT_BYTES)
    return descriptor


class SharedImages:
    """The memory as one process sees it. One front writes, one engine reads."""

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        """Map all of ``descriptor``, which may then be closed."""
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(descriptor, 0, access=access)
        self._begun = memoryview(self._map)[:8].cast("Q")
        self.slots = (len(self._map) - HEAD_BYTES) // SLOT_BYTES

    @property
    def begun(self) -> int:
        """Requests whose image the front has begun to receive, and has sent or will send."""
        return self._begun[0]

    @begun.setter
    def begun(self, requests: int) -> None:
        self._begun[0] = requests

    def pixels(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        """The image in a slot, uint8 (3, H, W); no copy.

        Raises:
            ValueError: There is no such slot, or the image does not fit.
        """
        if not 0 <= slot < self.slots or 3 * height * width > SLOT_BYTES:
            raise ValueError(f"slot {slot} of {self.slots} for {height}x{width} pixels")
        return np.ndarray((3, height, width), np.uint8, self._map, HEAD_BYTES + slot * SLOT_BYTES)


class FreeSlots:
    """Which slots a front may write to; the one that was freed last is taken first: its memory is there."""

    def __init__(self, count: int) -> None:
        """All are free."""
        self._free = list(range(count - 1, -1, -1))

    def take(self) -> int | None:
        """A slot, or ``None`` if all are taken."""
        return self._free.pop() if self._free else None

    def free(self, slot: int) -> None:
        """Give a slot back."""
        self._free.append(slot)
