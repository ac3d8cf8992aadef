"""One picture in every format, mode and orientation, and what a viewer would show of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from mutations.formats import encode
from mutations.originals import PICTURES, variants
from numpy.typing import NDArray
from PIL import Image

SHIP = Image.open(PICTURES[0]).convert("RGB")
_T = Image.Transpose
STORED: Mapping[int, Image.Transpose | None] = {
    **{1: None, 2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM},
    **{5: _T.TRANSPOSE, 6: _T.ROTATE_90, 7: _T.TRANSVERSE, 8: _T.ROTATE_270},
}
"""How the ship must be stored for an EXIF orientation to put it upright."""

Pixels = NDArray[np.float64]


class Picture(NamedTuple):
    """A file and what it shows.

    Attributes:
        data: The file.
        shown: RGB over white, (H, W, 3), 0..255.
        away: Largest mean distance of the decoded pixels from ``shown``.
    """

    data: bytes
    shown: Pixels
    away: float


def _rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"), np.float64)


def _over_white(colours: Pixels, alpha: Pixels) -> Pixels:
    return colours * alpha[..., None] + 255 * (1 - alpha[..., None])


GREY = SHIP.convert("L")
LEVELS = np.asarray(GREY, np.float64)
COARSE, RED = np.asarray(GREY) >> 6, np.asarray(SHIP, np.float64)[..., 0]
INDEX = np.asarray(SHIP.quantize(16))
FADED, FADED_GREY = _over_white(_rgb(SHIP), LEVELS / 255), _over_white(_rgb(GREY), LEVELS / 255)
SHOWN: Mapping[str, Callable[[], Pixels]] = {
    "jpeg grey": lambda: _rgb(GREY),
    "png rgba": lambda: FADED,
    "png 16-bit rgba, interlaced": lambda: FADED,
    "webp alpha": lambda: FADED,
    "png grey and alpha": lambda: FADED_GREY,
    "png palette with alphas": lambda: _over_white(_rgb(SHIP.quantize(16)), INDEX * 16 / 255),
    "png 1-bit": lambda: _rgb(SHIP.convert("1")),
    "bmp 1-bit": lambda: _rgb(SHIP.convert("1")),
    "png 2-bit": lambda: np.repeat(np.where(COARSE == 1, 255, COARSE * 85.0)[..., None], 3, axis=2),
    "png 4-bit palette, interlaced": lambda: _over_white(
        _rgb(SHIP.quantize(16)), np.choose(np.minimum(INDEX, 2), (0, 128 / 255, 1))
    ),
    "png 16-bit grey": lambda: np.repeat(np.where(RED == 64, 255, RED)[..., None], 3, axis=2),
    "gif in order, transparent": lambda: _over_white(
        _rgb(SHIP.quantize(64)), np.asarray(SHIP.quantize(64)) != np.float64(3)
    ),
}
"""Where it is not the ship in its colours."""

AWAY = {"jpeg": 3, "webp": 3, "gif": 2, "png": 0.6, "bmp": 0.6, "bmp 16-bit, top-down": 2}
"""Loss of a format, mean of all samples; of 8 bits transparency takes half a level."""


def _turned(container: str, turn: int) -> bytes:
    way, exif = STORED[turn], Image.Exif()
    exif[0x0112] = turn
    options: dict[str, Any] = {"exif": exif, "lossless": True, "quality": 95}
    return encode(SHIP if way is None else SHIP.transpose(way), container, **options)


def pictures() -> dict[str, Picture]:
    """By name: all modes but those that are refused, then the eight orientations in three formats."""
    found = {}
    for name, data in variants(SHIP, turn=1).items():
        if name != "jpeg arithmetic":
            shown = SHOWN.get(name, lambda: _rgb(SHIP))()
            found[name] = Picture(data, shown, AWAY.get(name, AWAY[name.split()[0]]))
    for container in ("JPEG", "PNG", "WEBP"):
        for turn in STORED:
            picture = Picture(_turned(container, turn), _rgb(SHIP), 1.5 if container == "JPEG" else 0)
            found[f"{container.lower()} of orientation {turn}"] = picture
    return found
