"""Hostile files by name, built the same way every time; their answers are in ``hostile_images.json``."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from mutations.formats import (
    PNG_MAGIC,
    bmp,
    chunk,
    encode,
    frames,
    png,
    png_header,
    rle_bmp,
    segment,
    tiff,
    webp,
    with_segment,
)
from mutations.originals import PICTURES
from mutations.parts import mended, sized, split
from PIL import Image

MIB = 2**20
SHIP = Image.open(PICTURES[0]).convert("RGB")
JPEG, PNG, GIF, WEBP, BMP = (encode(SHIP, container) for container in ("JPEG", "PNG", "GIF", "WEBP", "BMP"))
FILES = {"jpeg": JPEG, "png": PNG, "gif": GIF, "webp": WEBP, "bmp": BMP}
BODY = PNG[33:]
TABLES, FRAME, HUFFMAN, SCAN = (JPEG.find(bytes((0xFF, kind))) for kind in (0xDB, 0xC0, 0xC4, 0xDA))
IMAGE = GIF.find(b",", 13 + 3 * 256)


def without(data: bytes, mark: bytes) -> bytes:
    """A file without the parts that have ``mark`` in their first eight bytes."""
    return b"".join(part for part in split(data) if mark not in part[:8])


def scans(size: int, copies: int) -> bytes:
    """A progressive JPEG with its last scan over and over again."""
    data = encode(Image.new("L", (size, size)), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * copies + b"\xff\xd9"


def blank_png(side: int, bits: int, bands: int) -> bytes:
    """A PNG whose pixels cost nothing to send."""
    rows = zlib.compress((b"\0" + bytes(side * bits * bands // 8)) * side, 9)
    head = png_header(side, side, bits, {1: 0, 3: 2, 4: 6}[bands])
    return PNG_MAGIC + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def keyed(data: bytes, body: bytes) -> bytes:
    """A PNG with a transparent colour."""
    return data[:33] + chunk(b"tRNS", body) + data[33:]


def exif(body: bytes) -> bytes:
    """The ship with an EXIF block."""
    return with_segment(JPEG, 0xE1, b"Exif\0\0" + body)


def unfolding() -> bytes:
    """An EXIF block whose 2,000 entries all name the same 40,000 bytes."""
    tags = b"".join(struct.pack("<HHII", 0x9000 + index, 7, 40_000, 8) for index in range(2000))
    return exif(b"II*\0" + struct.pack("<IH", 8, 2000) + tags + bytes(35_000))


def profile(size: int) -> bytes:
    """A compressed colour profile of zeros."""
    return chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(size), 9))


BIG_TABLE = segment(0xDB, JPEG[TABLES + 4 : TABLES + 69] * 1000)
BEYOND = b"," + struct.pack("<HHHH", 60_000, 0, 5000, 60_000)
INDEXED = png(np.arange(64).reshape(8, 8) % 4, 2, palette=bytes(12))
HOSTILE: Mapping[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    **{f"{name} cut in half": lambda data=data: data[: len(data) // 2] for name, data in FILES.items()},
    **{f"{name} of 12 bytes": lambda data=data: data[:12] for name, data in FILES.items()},
    **{f"{name} without its last byte": lambda data=data: data[:-1] for name, data in FILES.items()},
    **{
        f"{name} of 65535x65535": lambda data=data: mended(sized(data, 65_535, 65_535))
        for name, data in FILES.items()
    },
    **{f"{name} of 0x7": lambda data=data: mended(sized(data, 0, 7)) for name, data in FILES.items()},
    "png of 2147483647x1": lambda: mended(sized(PNG, 2**31 - 1, 1)),
    "png of 60000x60000": lambda: PNG_MAGIC + png_header(60_000, 60_000) + BODY,
    "png of 51x1": lambda: encode(SHIP.resize((51, 1)), "PNG"),
    "png of 50x1": lambda: encode(SHIP.resize((50, 1)), "PNG"),
    "png of 3535x3535, 16-bit rgba": lambda: blank_png(3535, 16, 4),
    "png of 3535x3535, 16-bit grey, a transparent one": lambda: keyed(blank_png(3535, 16, 1), b"\0\0"),
    "png of 3535x3535, 8-bit grey, a transparent one": lambda: keyed(blank_png(3535, 8, 1), b"\0\0"),
    "png of 3536x3536, 16-bit rgba": lambda: blank_png(3536, 16, 4),
    "png, 12 times as large as it says": lambda: mended(sized(PNG, 12, 128)),
    "jpeg of 59424x3": lambda: encode(Image.new("RGB", (59_424, 3)), "JPEG"),
    "jpeg of 8900x8900": lambda: encode(Image.new("L", (8900, 8900)), "JPEG"),
    "jpeg of 9000x8900": lambda: encode(Image.new("L", (9000, 8900)), "JPEG"),
    "webp of 16384x16384": lambda: webp(b"VP8X", bytes(4) + b"\xff\x3f\0" * 2),
    "webp of 513x512, lossless": lambda: webp(b"VP8L", b"\x2f" + struct.pack("<I", 512 | 511 << 14)),
    "webp of 2898x2898": lambda: encode(Image.new("RGB", (2898, 2898)), "WEBP", method=0),
    "bmp of 2147483648x-2147483648": lambda: sized(BMP, 2**31, 2**31),
    "gif with a frame beyond its screen": lambda: GIF[:IMAGE] + BEYOND + GIF[IMAGE + 9 :],
    "jpeg without quantisation tables": lambda: without(JPEG, b"\xff\xdb"),
    "jpeg without huffman tables": lambda: without(JPEG, b"\xff\xc4"),
    "jpeg without a frame": lambda: without(JPEG, b"\xff\xc0"),
    "jpeg of two frames": lambda: JPEG[:FRAME] + JPEG[FRAME:HUFFMAN] * 2 + JPEG[HUFFMAN:],
    "jpeg that ends at once": lambda: JPEG[:2] + b"\xff\xd9" + JPEG[2:],
    "jpeg with a frame of 0 bytes": lambda: JPEG[: FRAME + 2] + b"\0\0" + JPEG[FRAME + 4 :],
    "jpeg with a table of 65535 bytes": lambda: JPEG[: TABLES + 2] + b"\xff\xff" + JPEG[TABLES + 4 :],
    "jpeg with arithmetic coding": lambda: JPEG.replace(b"\xff\xc0", b"\xff\xc9"),
    "jpeg without loss": lambda: JPEG.replace(b"\xff\xc0", b"\xff\xc3"),
    "jpeg of 12 bits": lambda: JPEG[: FRAME + 4] + b"\x0c" + JPEG[FRAME + 5 :],
    "jpeg of 9 MiB of junk": lambda: JPEG[:TABLES] + bytes(9 * MIB) + JPEG[TABLES:],
    "jpeg of 9 MiB of fill bytes": lambda: JPEG[:TABLES] + b"\xff" * 9 * MIB + JPEG[TABLES:],
    "jpeg of 102 tables": lambda: JPEG[:TABLES] + JPEG[TABLES : TABLES + 69] * 100 + JPEG[TABLES:],
    "jpeg of big tables": lambda: JPEG[:TABLES] + BIG_TABLE * 50 + JPEG[TABLES:],
    "jpeg of 16 big scans": lambda: scans(3500, 10),
    "jpeg of 17 big scans": lambda: scans(3500, 11),
    "jpeg of 762 small scans": lambda: scans(8, 756),
    "jpeg of 763 small scans": lambda: scans(8, 757),
    "png without pixels": lambda: without(PNG, b"IDAT"),
    "png with two headers": lambda: PNG[:33] + png_header(60_000, 60_000) + BODY,
    "png with wrong checksums": lambda: PNG[:8] + b"".join(part[:-1] + b"!" for part in split(PNG)[1:]),
    "png of filter 9": lambda: PNG[:33] + chunk(b"IDAT", zlib.compress(b"\x09" + bytes(384))) + BODY[-12:],
    "png of 3 bits": lambda: PNG_MAGIC + png_header(128, 128, 3, 0) + BODY,
    "png without its palette": lambda: without(INDEXED, b"PLTE"),
    "png of tiny chunks": lambda: PNG[:33] + chunk(b"abCd", b"") * 800_000 + BODY,
    "png of 9 GiB of colour profiles": lambda: PNG[:33] + profile(MIB) * 9000 + BODY,
    "png of a broken colour profile": lambda: PNG[:33] + chunk(b"iCCP", b"a\0\0rubbish") + BODY,
    "png of 9 MiB of text, wrong checksum": lambda: (
        PNG[:33] + profile(9 * MIB).replace(b"iCCP", b"zTXt") + BODY
    ),
    "jpeg of a broken colour profile": lambda: with_segment(JPEG, 0xE2, b"ICC_PROFILE\0\xff\1rubbish"),
    "gif of lzw codes of 13 bits": lambda: GIF[: IMAGE + 10] + b"\x0d" + GIF[IMAGE + 11 :],
    "gif of 4 Mi sub-blocks": lambda: GIF[:IMAGE] + b"!\xfe" + b"\1a" * 4 * MIB + b"\0" + GIF[IMAGE:],
    "gif without an image": lambda: GIF[:IMAGE] + b";",
    "webp without an image": lambda: webp(b"VP8X", bytes(10)),
    "webp whose length is a lie": lambda: WEBP[:4] + b"\xff\xff\xff\x7f" + WEBP[8:],
    "bmp of 7 bits": lambda: bmp(8, 8, bytes(192), bits=7),
    "bmp of pixels behind its end": lambda: BMP[:10] + b"\xff\xff\0\0" + BMP[14:],
    "bmp of idle runs": lambda: rle_bmp(1024, 1024, b"\0\2\0\0" * 260_000),
    "bmp of 2 MiB of runs": lambda: rle_bmp(64, 64, b"\1\5" * MIB),
    "bmp of empty lines": lambda: rle_bmp(1024, 1024, b"\1\5\0\0" * 1024 + b"\0\1"),
    "gif of 300 frames": lambda: encode(SHIP, "GIF", save_all=True, append_images=[*frames(SHIP, 300)]),
    "png of 200 frames": lambda: encode(SHIP, "PNG", save_all=True, append_images=[*frames(SHIP, 200)]),
    "webp of 60 frames": lambda: encode(
        SHIP, "WEBP", method=0, save_all=True, append_images=[*frames(SHIP, 60)]
    ),
    "exif that ends in its directory": lambda: exif(tiff(6, more=3)[:-20]),
    "exif of 65535 entries": lambda: exif(b"II*\0" + struct.pack("<IH", 8, 65_535)),
    "exif that points behind its end": lambda: exif(b"MM\0*\xff\xff\xff\xff"),
    "exif that goes in circles": lambda: exif(tiff(1)[:-4] + struct.pack("<I", 8)),
    "exif of 80 MB in one block": unfolding,
    "html before a png": lambda: b"<html>" + PNG,
    "pdf before a jpeg": lambda: b"%PDF-1.7\n" + JPEG,
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/'/></svg>",
    "tiff": lambda: encode(SHIP, "TIFF"),
    "avif": lambda: encode(SHIP, "AVIF"),
    "jpeg 2000": lambda: encode(SHIP, "JPEG2000"),
    "script in a gif": lambda: b"GIF89a=1/*" + GIF[10:] + b"*/;alert(1)",
}
"""What has attacked image servers, and what only looks like it."""
