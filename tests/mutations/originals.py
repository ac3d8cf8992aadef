"""Real images in every format, mode and option that a client could send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mutations.formats import bmp, encode, frames, old_bmp, png, rle_bmp, ycck
from PIL import Image, ImageCms

ROOT = Path(__file__).parent.parent.parent
PICTURES = (
    ROOT / "tests/images/ship.png",
    *(ROOT / "service/playground/samples" / f"cifar10-{name}.png" for name in ("cat", "frog", "truck")),
)
PHOTOGRAPHS = os.environ.get("PHOTOGRAPHS")
"""Folder of JPEG files to be mutated as well, where there is one."""

Variants = Iterator[tuple[str, bytes]]


def _exif(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = turn, "a description"
    return exif


def _jpegs(image: Image.Image, turn: int) -> Variants:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, dict[str, Any]] = {
        "4:2:0": {"exif": _exif(turn)},
        "4:2:2": {"subsampling": "4:2:2", "icc_profile": profile, "comment": b"c" * 80},
        "4:4:4": {"subsampling": "4:4:4", "quality": 95, "optimize": True},
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_blocks": 2},
        "as rgb": {"keep_rgb": True},
    }
    for name, chosen in options.items():
        yield f"jpeg {name}", encode(image, "JPEG", **chosen)
    yield "jpeg grey", encode(image.convert("L"), "JPEG")
    yield "jpeg cmyk", encode(image.convert("CMYK"), "JPEG")
    yield "jpeg ycck", ycck(image)
    arithmetic = encode(image, "JPEG")
    yield "jpeg arithmetic", arithmetic.replace(b"\xff\xc0", b"\xff\xc9", 1)
    yield "jpeg mpo", encode(image, "MPO", save_all=True, append_images=list(frames(image, 3)))


def _pngs(image: Image.Image, turn: int) -> Variants:
    pixels, grey = np.asarray(image), np.asarray(image.convert("L"))
    palette = image.quantize(16)
    colours = bytes(palette.getpalette() or ())[:48]
    index, deep = np.asarray(palette), pixels.astype(np.uint16) * 257
    yield "png", encode(image, "PNG", exif=_exif(turn))
    yield "png interlaced", png(pixels, 8, interlaced=True)
    yield "png rgba", encode(_faded(image), "PNG")
    yield "png grey and alpha", encode(_faded(image).convert("LA"), "PNG")
    yield "png palette with alphas", encode(palette, "PNG", transparency=bytes(range(0, 256, 16)))
    yield "png 1-bit", encode(image.convert("1"), "PNG")
    yield "png 2-bit", png(grey >> 6, 2, key=b"\0\1")
    yield "png 4-bit palette, interlaced", png(index, 4, palette=colours, key=b"\0\x80", interlaced=True)
    yield "png 16-bit grey", png(deep[..., :1], 16, key=b"\x40\x40")
    yield "png 16-bit rgb", png(deep, 16)
    yield "png 16-bit rgba, interlaced", png(np.asarray(_faded(image)) * np.uint16(257), 16, interlaced=True)
    animation: dict[str, Any] = {
        "save_all": True,
        "append_images": list(frames(image, 3)),
        "default_image": True,
    }
    yield "png animated", encode(image, "PNG", icc_profile=b"no profile", **animation)


def _faded(image: Image.Image) -> Image.Image:
    faded = image.convert("RGBA")
    faded.putalpha(image.convert("L"))
    return faded


def _gifs(image: Image.Image) -> Variants:
    palette = image.quantize(64)
    yield "gif", encode(palette, "GIF", comment=b"a comment")
    yield "gif in order, transparent", encode(palette, "GIF", interlace=0, transparency=3)
    turned = [frame.quantize(32) for frame in frames(image, 6)]
    yield "gif animated", encode(palette, "GIF", save_all=True, append_images=turned, loop=0, disposal=2)


def _webps(image: Image.Image, turn: int) -> Variants:
    yield "webp", encode(image, "WEBP")
    yield "webp extended", encode(image, "WEBP", exif=_exif(turn), icc_profile=b"none", xmp=b"<x/>")
    yield "webp lossless", encode(image, "WEBP", lossless=True)
    yield "webp alpha", encode(_faded(image), "WEBP")
    yield "webp animated", encode(image, "WEBP", save_all=True, append_images=list(frames(image, 4)))


def _bmps(image: Image.Image) -> Variants:
    index = image.quantize(256)
    entries = np.pad(np.array(index.getpalette(), np.uint8).reshape(-1, 3)[:, ::-1], ((0, 0), (0, 1)))
    width, height = image.size
    rows = np.asarray(index)[::-1]
    runs = b"".join(b"".join(b"\1" + bytes([value]) for value in row) + b"\0\0" for row in rows) + b"\0\1"
    yield "bmp", encode(image, "BMP")
    yield "bmp palette", encode(index, "BMP")
    yield "bmp 1-bit", encode(image.convert("1"), "BMP")
    yield "bmp run-length", rle_bmp(width, height, runs, entries.tobytes().ljust(1024, b"\0"))
    pixels = np.asarray(image).astype(np.uint16)
    packed = pixels[..., 0] >> 3 << 11 | pixels[..., 1] >> 2 << 5 | pixels[..., 2] >> 3
    masks = np.array([0xF800, 0x07E0, 0x001F], "<u4").tobytes()
    topdown = bmp(width, -height, packed.astype("<u2").tobytes(), bits=16, compression=3, palette=masks)
    yield "bmp 16-bit, top-down", topdown
    yield "bmp of os/2", old_bmp(image)


def variants(image: Image.Image, turn: int = 6) -> dict[str, bytes]:
    """An image, RGB and of a width that is a multiple of 4, as all kinds of files."""
    groups = (_jpegs(image, turn), _pngs(image, turn), _gifs(image), _webps(image, turn), _bmps(image))
    return dict(entry for group in groups for entry in group)


@cache
def originals() -> dict[str, bytes]:
    """Files to mutate by name, ``picture: kind``."""
    found: dict[str, bytes] = {}
    for turn, path in enumerate(PICTURES, start=2):
        image = Image.open(path).convert("RGB")
        found |= {f"{path.stem}: {kind}": data for kind, data in variants(image, turn).items()}
    odd = Image.open(PICTURES[0]).convert("RGB").crop((3, 5, 55, 22))  # no multiple of a JPEG's blocks
    found |= {f"odd: {kind}": data for kind, data in variants(odd, 7).items()}
    return found


def photographs() -> dict[str, bytes]:
    """Photographs as they are, and a few re-encoded; empty where no folder is named."""
    files = sorted(Path(PHOTOGRAPHS).glob("*.jpg")) if PHOTOGRAPHS else []
    found = {f"{path.stem}: jpeg": path.read_bytes() for path in files}
    for path in files[:2]:
        image = Image.open(path).convert("RGB")
        found |= {
            f"{path.stem}: {kind}": data for kind, data in variants(image.crop((0, 0, 320, 240))).items()
        }
    return found
