"""Image containers: what a file's header says, and the file reduced to what makes its pixels.

Pillow walks containers in Python, keeps and inflates the metadata it meets, and parses EXIF at ``open``. At
8x8 pixels, 16 MiB of tiny PNG chunks cost it 3 s, of compressed colour profiles 10 s. So each reader here
walks the container itself, in a bounded number of steps, and hands over only what a decoder needs. Nothing
here judges: which sizes are accepted is for ``preprocess`` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct, error, unpack_from
from typing import Literal, NamedTuple

Coding = Literal["plain", "jpeg", "jpeg in scans", "webp", "lossless webp", "run-length bmp"]
"""How the pixels are coded, as far as it decides what decoding them costs."""

MAX_STEPS = 65_536
"""PNG chunks, or GIF blocks before the first image; 16 MiB in the 8 KiB chunks of libpng are 2,048."""

MAX_JPEG_SEGMENTS = 1024
"""Segments before the first scan; 16 MiB in segments of the largest size are 256."""

MAX_JPEG_TABLES = 64
"""Of these, frames and tables: JPEG has room for four quantisation and eight Huffman tables."""


class BrokenHeader(ValueError):
    """A header that is truncated, malformed, or of a kind no browser shows; the message may be published."""


class Source(NamedTuple):
    """What a file's header says.

    Attributes:
        data: The file without its metadata.
        width: Stored width in pixels, before the orientation is applied or a JPEG is shrunk. May be 0.
        height: Stored height in pixels. May be 0.
        coding: How the pixels are coded.
        scans: Passes over the pixels that decoding takes.
        exif: The EXIF block of a JPEG or PNG, else empty. Kept from Pillow, which reads every value in it.
    """

    data: bytes
    width: int
    height: int
    coding: Coding = "plain"
    scans: int = 1
    exif: bytes = b""


def sniff(data: bytes) -> str | None:
    """Name the format by its magic bytes: ``JPEG``, ``PNG``, ``WEBP``, ``GIF``, ``BMP``; else None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return "BMP" if data.startswith(b"BM") else None


_PNG_CHUNK = Struct(">I4s")


def _read_png(data: bytes) -> Source:
    """Keep IHDR, PLTE, tRNS, IDAT, IEND; without its animation chunks an APNG is its default image."""
    if data[8:16] != b"\0\0\0\x0dIHDR":
        raise BrokenHeader("PNG without an image header")
    width, height = unpack_from(">II", data, 16)
    kept, exif, position = [data[:33]], b"", 33
    for _ in range(MAX_STEPS):
        if position + 8 > len(data):
            break  # No IEND. Whether the pixels are complete is the decoder's to say.
        length, kind = _PNG_CHUNK.unpack_from(data, position)
        end = position + 12 + length
        if kind in (b"IDAT", b"PLTE", b"tRNS", b"IEND"):
            kept.append(data[position:end])
        elif kind == b"eXIf" and not exif:
            exif = data[position + 8 : end - 4]
        if kind == b"IEND":
            break
        position = end
    else:
        raise BrokenHeader(f"PNG of more than {MAX_STEPS} chunks")
    if data[25:26] == b"\x03" and not any(part.startswith(b"PLTE", 4) for part in kept):
        raise BrokenHeader("PNG of palette indices without a palette")  # Pillow makes one up
    return Source(b"".join(kept), width, height, exif=exif)


_PROGRESSIVE, _SOS, _APP1 = 0xC2, 0xDA, 0xE1
_FRAMES = frozenset((0xC0, 0xC1, _PROGRESSIVE))
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8}  # 0xCC, arithmetic tables, included
# Tables, restart interval, and the two that tell RGB from YCbCr: JFIF (APP0) and Adobe (APP14).
_KEPT = _FRAMES | {0xC4, 0xDB, 0xDD, 0xE0, 0xEE}
_WITHOUT_LENGTH = frozenset((0x00, 0x01, 0xFF, *range(0xD0, 0xDA)))


def _read_jpeg(data: bytes) -> Source:
    """Keep frame, tables and scans up to the first end of image; an MPO becomes its first image."""
    kept, frame, exif, position = [b"\xff\xd8"], b"", b"", 2
    for _ in range(MAX_JPEG_SEGMENTS):
        position = data.index(b"\xff", position)
        marker = data[position + 1]
        if marker in _WITHOUT_LENGTH:
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position:end]
        if marker == _SOS:
            break
        if marker in _OTHER_FRAMES or (frame and marker in _FRAMES):
            raise BrokenHeader("JPEG that is neither baseline nor progressive with Huffman coding")
        if marker in _FRAMES:
            frame = segment
        elif marker == _APP1 and not exif and segment.startswith(b"Exif\0\0", 4):
            exif = segment[4:]
        if marker in _KEPT:
            kept.append(segment)
        position = end
    else:
        raise BrokenHeader(f"JPEG of more than {MAX_JPEG_SEGMENTS} segments before its first scan")
    if len(kept) > MAX_JPEG_TABLES:
        raise BrokenHeader(f"JPEG of {len(kept)} table segments; at most {MAX_JPEG_TABLES} are accepted")
    height, width, components = unpack_from(">HHB", frame, 5)
    # In a scan FF is followed by 00 or a restart marker, so this is the real end; behind it is another image.
    end = data.find(b"\xff\xd9", position)
    scans = data[position:] if end < 0 else data[position : end + 2]
    in_scans = frame[1] == _PROGRESSIVE or scans[4] < components  # else the decoder stops after the first
    coding: Coding = "jpeg in scans" if in_scans else "jpeg"
    return Source(
        b"".join((*kept, scans)), width, height, coding, scans.count(b"\xff\xda") if in_scans else 1, exif
    )


def _read_gif(data: bytes) -> Source:
    """Keep the screen, the first frame's transparency, and everything from the first frame on."""
    width, height, flags = unpack_from("<HHB", data, 6)
    position = head = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    control, in_extension = b"", False
    for _ in range(MAX_STEPS):
        byte = data[position]
        if in_extension:  # a sub-block; the one of length 0 ends the extension
            in_extension = byte != 0
            position += 1 + byte
        elif byte == 0x2C:  # image descriptor; Pillow widens the screen to hold the frame
            left, top, frame_width, frame_height = unpack_from("<HHHH", data, position + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            return Source(data[:head] + control + data[position:], width, height)
        elif byte == 0x21:
            if data.startswith(b"\xf9\x04", position + 1):
                control = data[position : position + 7] + b"\0"
            position += 2
            in_extension = True
        elif byte == 0x3B:  # trailer
            break
        else:
            position += 1  # stray bytes between blocks exist in the wild
    raise BrokenHeader(f"GIF without an image in its first {MAX_STEPS} blocks")


def _read_webp(data: bytes) -> Source:
    """Read the canvas only: libwebp walks the container itself, in C."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in unpack_from("<HH", data, 26))
    else:
        raise BrokenHeader("WebP without an image header")
    # A search cannot be deceived as a walk can; a chance hit concerns one file in thousands.
    lossless = b"VP8L" in data or b"ALPH" in data
    return Source(data, width, height, "lossless webp" if lossless else "webp")


def _read_bmp(data: bytes) -> Source:
    """Read size and compression only: a BMP has no metadata."""
    (header_bytes,) = unpack_from("<I", data, 14)
    if header_bytes == 12:
        return Source(data, *unpack_from("<HH", data, 18))
    width, height, compression = unpack_from("<Ii4xI", data, 18)
    return Source(data, width, abs(height), "run-length bmp" if compression in (1, 2) else "plain")


_READERS: Mapping[str, Callable[[bytes], Source]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WEBP": _read_webp,
    "GIF": _read_gif,
    "BMP": _read_bmp,
}


def read(data: bytes, container: str) -> Source:
    """Read the header of ``data``, a file that ``sniff`` called ``container``.

    Raises:
        BrokenHeader: It is truncated, malformed or of a kind that is not accepted.
    """
    try:
        return _READERS[container](data)
    except BrokenHeader:
        raise
    except (error, IndexError, ValueError) as cause:  # the header runs off the end of the file
        raise BrokenHeader(f"{container} of {len(data)} bytes with a truncated header") from cause


def orientation(exif: bytes) -> int:
    """Find the EXIF orientation, 1 to 8; 1 (upright) where there is none or the block is broken.

    Source: EXIF 2.32 section 4.6.4, tag 0x0112 of the 0th IFD; TIFF 6.0 section 2.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    entry = Struct(order + "HHIH")  # tag, type, count, first half of the value
    try:
        (start,) = unpack_from(order + "I", tiff, 4)
        (count,) = unpack_from(order + "H", tiff, start)
        for index in range(count):
            tag, kind, _, value = entry.unpack_from(tiff, start + 2 + 12 * index)
            if tag == 0x0112:
                return int(value) if kind == 3 and 1 <= value <= 8 else 1
    except error:  # the block ends within the directory
        pass
    return 1
