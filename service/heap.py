"""The C library's memory, of which it gives little back unless it is told."""

from __future__ import annotations

import ctypes
from typing import Final

LARGE_BYTES: Final = 4 * 2**20
"""Blocks from this size on go back to the system when they are freed. Left alone, the C library raises its
own limit to 32 MiB as it sees large blocks freed, and then keeps what decoders of large images had: 90 MiB,
and 29 more in each 20,000 hostile images. Below are a launch's features, which would be paged in anew."""

TOP_BYTES: Final = 2**20
"""What may stay free at a heap's end."""

ARENAS: Final = 2
"""Its heaps; each keeps some of what its threads have freed. The threads here are few and take turns."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt, as in glibc's malloc.h


def keep_heap_small() -> None:
    """Have what large images leave given back; before there are threads."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, TOP_BYTES)
        mallopt(_ARENA_MAX, ARENAS)


def trim_heap() -> None:
    """Give back what is free now."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
