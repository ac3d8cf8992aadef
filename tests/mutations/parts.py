"""Files taken apart at the seams of their format, and mended after the parts were tampered with.

All of it works on damaged files, too: what cannot be parsed is one last part.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, pairwise

from mutations.formats import PNG_MAGIC

Cuts = Iterator[int]
MAX_PARTS = 2000
"""More are left together."""


def _png_cuts(data: bytes) -> Cuts:
    position = 8
    while position + 12 <= len(data):
        yield position
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def _jpeg_cuts(data: bytes) -> Cuts:
    """Before every marker but the stuffed FF 00: segments, scans, the pieces between restarts."""
    position = 2
    while (at := data.find(b"\xff", position)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker not in (0x00, 0xFF):
            yield at
        lengthy = marker not in (0x00, 0x01, 0xFF) and not 0xD0 <= marker <= 0xD9
        position = at + (2 + int.from_bytes(data[at + 2 : at + 4], "big") if lengthy else 1)


def _webp_cuts(data: bytes) -> Cuts:
    position = 12
    while position + 8 <= len(data):
        yield position
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + (16 if data.startswith(b"ANMF", position) else size + size % 2)


def _gif_cuts(data: bytes) -> Cuts:
    """Before every block and every sub-block."""
    yield 6
    position = 13 + _table_bytes(data, 10)
    in_blocks = False
    while position < len(data):
        yield position
        byte = data[position]
        if in_blocks:
            in_blocks = byte != 0
            position += 1 + byte
        elif byte == 0x2C:
            position += 11 + _table_bytes(data, position + 9)
            in_blocks = True
        elif byte == 0x21:
            position += 2
            in_blocks = True
        else:
            position += 1


def _table_bytes(data: bytes, at: int) -> int:
    flags = data[at] if at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp_cuts(data: bytes) -> Cuts:
    yield 14
    if len(data) >= 18:
        yield 14 + int.from_bytes(data[14:18], "little")
    yield int.from_bytes(data[10:14], "little")


_CUTS: Mapping[bytes, Callable[[bytes], Cuts]] = {
    b"\x89P": _png_cuts,
    b"\xff\xd8": _jpeg_cuts,
    b"RI": _webp_cuts,
    b"GI": _gif_cuts,
    b"BM": _bmp_cuts,
}


def split(data: bytes) -> list[bytes]:
    """The signature, then chunks, segments, blocks or headers; joined they are ``data``."""
    seams = islice(_CUTS[data[:2]](data), MAX_PARTS) if data[:2] in _CUTS else ()
    cuts = sorted({0, *(cut for cut in seams if cut < len(data)), len(data)})
    return [data[start:end] for start, end in pairwise(cuts)]


def signature(data: bytes) -> bytes:
    """What must be whole for a reader to look any further."""
    return data[: {b"\x89P": 16, b"\xff\xd8": 3, b"RI": 16, b"GI": 6, b"BM": 18}.get(data[:2], 0)]


def mended(data: bytes) -> bytes:
    """With the checksums and the total that a decoder would look at first."""
    if data.startswith(PNG_MAGIC):
        out, position = [data[:8]], 8
        while position + 12 <= len(data):
            end = position + 8 + int.from_bytes(data[position : position + 4], "big")
            out += (data[position:end], struct.pack(">I", zlib.crc32(data[position + 4 : end])))
            position = end + 4
        return b"".join((*out, data[position:]))
    if data.startswith(b"RIFF") and len(data) >= 8:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return data


_SIZES: Mapping[bytes, tuple[re.Pattern[bytes], str]] = {
    b"\x89P": (re.compile(rb"IHDR(?=.{8})", re.DOTALL), ">II"),
    b"\xff\xd8": (re.compile(rb"\xff[\xc0-\xc2].{3}(?=.{4})", re.DOTALL), ">HH"),  # height first
    b"GI": (re.compile(rb"GIF8[79]a(?=.{4})|,\0\0\0\0(?=.{4})", re.DOTALL), "<HH"),
    b"RI": (re.compile(rb"VP8 .{4}.{6}(?=.{4})|VP8[XL].{8}(?=.{4})", re.DOTALL), "<HH"),
    b"BM": (re.compile(rb"^BM.{16}(?=.{8})", re.DOTALL), "<ii"),
}


def sized(data: bytes, first: int, second: int, place: int = 0) -> bytes:
    """The same file with other numbers where the ``place``-th size is."""
    pattern, layout = _SIZES.get(data[:2], (re.compile(b"$^"), "<HH"))
    found = [match.end() for match in pattern.finditer(data)]
    if not found:
        return data
    at, mask = found[place % len(found)], (1 << 4 * struct.calcsize(layout)) - 1
    numbers = struct.pack(layout.upper(), first & mask, second & mask)
    return data[:at] + numbers + data[at + len(numbers) :]
