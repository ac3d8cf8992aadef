"""Image files by hand: what Pillow reads but cannot write, and the pieces that attacks are made of."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
    (0, 1, 1, 2),
)
"""Passes of an interlaced PNG: first column and row, steps to the next. Source: PNG 1.2 section 2.6."""


def encode(image: Image.Image, container: str, **options: Any) -> bytes:
    """What Pillow makes of it."""
    buffer = BytesIO()
    image.save(buffer, container, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, bits: int = 8, colour: int = 2, interlaced: bool = False) -> bytes:
    """The chunk IHDR."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))


def png(
    samples: NDArray[Any], bits: int, *, palette: bytes = b"", key: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG of any sample format.

    Args:
        samples: (H, W), or (H, W, bands) with 1 to 4 bands; each below 2 ** bits.
        bits: Of a sample: 1, 2, 4, 8, 16.
        palette: Its colours, three bytes each; samples are then indices.
        key: Body of the chunk tRNS.
        interlaced: In the seven passes of Adam7.
    """
    samples = samples.reshape(*samples.shape[:2], -1)
    height, width, bands = samples.shape
    colour = 3 if palette else {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = b"".join(
        b"\0" + _packed(row.ravel(), bits)
        for left, top, right, down in (_ADAM7 if interlaced else _WHOLE)
        if width > left
        for row in samples[top::down, left::right]
    )
    parts = [png_header(width, height, bits, colour, interlaced)]
    parts += [chunk(kind, body) for kind, body in ((b"PLTE", palette), (b"tRNS", key)) if body]
    return b"".join((PNG_MAGIC, *parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")))


def _packed(row: NDArray[Any], bits: int) -> bytes:
    if bits >= 8:
        return row.astype(f">u{bits // 8}").tobytes()
    return np.packbits(row.astype(np.uint8)[:, None] >> np.arange(bits - 1, -1, -1) & 1).tobytes()


def bmp(
    width: int, height: int, pixels: bytes, *, bits: int = 24, compression: int = 0, palette: bytes = b""
) -> bytes:
    """A BMP with the header of Windows 3; ``palette`` holds four bytes a colour, or three masks."""
    sizes = struct.pack("<IHHI", 54 + len(palette) + len(pixels), 0, 0, 54 + len(palette))
    colours = 0 if compression == 3 else len(palette) // 4
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
    return b"BM" + sizes + header + palette + pixels


def rle_bmp(width: int, height: int, runs: bytes, palette: bytes = bytes(range(256)) * 4) -> bytes:
    """A BMP of run-length codes."""
    return bmp(width, height, runs, bits=8, compression=1, palette=palette)


def old_bmp(image: Image.Image) -> bytes:
    """The BMP of OS/2, whose header has 12 bytes; the width must be a multiple of 4."""
    sizes = struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, *image.size, 1, 24)
    return b"BM" + sizes + image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGR")


def webp(kind: bytes, body: bytes) -> bytes:
    """A WebP of one chunk."""
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG, as long as it says."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment, before all others."""
    return data[:2] + segment(marker, body) + data[2:]


def tiff(orientation: int, order: str = "<", kind: int = 3, more: int = 0) -> bytes:
    """An EXIF block without its signature; ``more`` tags come before the orientation."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, more + 1)
    other = struct.pack(order + "HHIHH", 0x0100, 3, 1, 7, 0)
    return head + other * more + struct.pack(order + "HHIHH", 0x0112, kind, 1, orientation, 0) + bytes(4)


def ycck(image: Image.Image, **options: Any) -> bytes:
    """A JPEG of four components, three of them YCbCr; Pillow writes them as if they were CMYK."""
    bands = ImageChops.invert(image).convert("YCbCr").split()
    black = Image.new("L", image.size, 0)
    inks = Image.merge("CMYK", (*(ImageChops.invert(band) for band in bands), black))
    data = encode(inks, "JPEG", **options)
    at = data.index(b"Adobe", 0)
    return data[: at + 11] + b"\2" + data[at + 12 :]  # the transform: 2 is YCCK


def frames(image: Image.Image, count: int) -> Iterator[Image.Image]:
    """Turned copies, for animations."""
    return (image.rotate(90 * (turn % 4)) for turn in range(1, count))
