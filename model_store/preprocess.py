"""Bytes to image to uint8 array. Hostile input stops here: whatever the bytes, an array or an ``ImageError``.

Magic bytes, then our own reading of the header (``containers``), then the limits, and only then Pillow, which
sees the file without metadata. Transparency is composited on white. Of an animation the first frame is read.
"""

from __future__ import annotations

from io import BytesIO
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import WebPImagePlugin as WebPImagePlugin  # registers WebP
from pydantic import BaseModel, Field, model_validator

from model_store.containers import BrokenHeader, Source, orientation, read
from model_store.containers import sniff as sniff
from model_store.pixels import flatten

PILLOW_WARNS_ABOVE = 89_478_485  # PIL.Image.MAX_IMAGE_PIXELS: within it Pillow has no warning of its own
MAX_SCAN_PIXELS = 200_000_000  # scans x pixels of a multi-scan JPEG: 16 of 12.5 MP; 10 scans are usual
MIN_SCAN_PIXELS = 2**18  # what a scan of a small image counts as, for building its Huffman tables
MAX_RUN_LENGTH = 2**20  # pixels, and bytes, of a run-length BMP: Pillow decodes these in Python, byte by byte
Unit = Annotated[float, Field(ge=0, le=1)]
PositiveUnit = Annotated[float, Field(gt=0, le=1)]
Side = Annotated[int, Field(ge=1, le=4096)]
PixelCount = Annotated[int, Field(ge=1, le=PILLOW_WARNS_ABOVE)]

Image.preinit()  # registers the other four; else the first request would wait, the first WebP for all 40


class InputSpec(BaseModel, frozen=True, extra="forbid"):
    """What a network takes: size of its images and how they are normalised (on the device, in stage 0)."""

    height: Side = Field(description="Rows of the centre crop.")
    width: Side = Field(description="Columns of the centre crop.")
    mean: tuple[Unit, Unit, Unit] = Field(description="Mean of red, green, blue, subtracted; units of 0..1.")
    std: tuple[PositiveUnit, PositiveUnit, PositiveUnit] = Field(
        description="Standard deviation of red, green, blue, divided by; units of 0..1."
    )
    resize: Side = Field(description="Short side in pixels before the centre crop; 32 for CIFAR.")
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="How images are resized.")

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if max(self.height, self.width) > self.resize:
            raise ValueError(f"crop of {self.height}x{self.width} does not fit a short side of {self.resize}")
        return self


class ImageLimits(BaseModel, frozen=True, extra="forbid"):
    """What an image may cost. Within the defaults the worst found took 0.5 s of a Xeon core and 150 MB."""

    max_bytes: int = Field(
        default=10 * 2**20, ge=1, description="Encoded bytes; the worst JPEG and PNG take 50 ms for each MiB."
    )
    max_pixels: PixelCount = Field(
        default=12_500_000,
        description="Pixels to decode, each up to 12 bytes of memory; of a JPEG after it is shrunk.",
    )
    max_jpeg_pixels: PixelCount = Field(
        default=80_000_000,
        description="Pixels of a baseline JPEG before its decoder shrinks it; they cost time only.",
    )
    max_webp_pixels: PixelCount = Field(
        default=8_400_000, description="Pixels of a WebP, each 20 bytes of memory."
    )
    max_lossless_webp_pixels: PixelCount = Field(
        default=512 * 512,
        description="Pixels of a WebP with lossless parts, transparency included. Every 4x4 block may bring "
        "its own Huffman tables, up to 65,536: a 295 KB file of 1 MP was seen to take 360 MB and 0.5 s.",
    )
    max_aspect_ratio: float = Field(default=50, ge=1, description="Long side over short side, in pixels.")


class ImageError(Exception):
    """An image that cannot be used; ``detail`` is for the client.

    ImageError
    |- ImageTooLarge      413 too_large               bytes, pixels, scans or aspect ratio over the limit
    |- UnsupportedImage   415 unsupported_media_type  not one of the five formats by its magic bytes
    |- UndecodableImage   422 undecodable_image       right magic, broken or truncated
    """

    status: int
    code: str

    def __init__(self, detail: str) -> None:
        """Keep ``detail``: one sentence that names the value and the limit and nothing internal."""
        super().__init__(detail)
        self.detail = detail


class ImageTooLarge(ImageError):
    """Bytes, pixels, scans or aspect ratio over the limit."""

    status, code = 413, "too_large"


class UnsupportedImage(ImageError):
    """Not JPEG, PNG, WebP, GIF or BMP by its magic bytes."""

    status, code = 415, "unsupported_media_type"


class UndecodableImage(ImageError):
    """The right magic bytes, but broken, truncated, or coded in a way that no browser shows."""

    status, code = 422, "undecodable_image"


# OSError: truncated or unidentified; SyntaxError: Pillow's "not this format after all".
_BROKEN = (OSError, ValueError, SyntaxError, MemoryError, NotImplementedError, Image.DecompressionBombError)
_T = Image.Transpose
_TRANSPOSITIONS = (_T.FLIP_LEFT_RIGHT, _T.ROTATE_180, _T.FLIP_TOP_BOTTOM, _T.TRANSPOSE)
_UPRIGHT = dict(enumerate((*_TRANSPOSITIONS, _T.ROTATE_270, _T.TRANSVERSE, _T.ROTATE_90), start=2))
"""What undoes an EXIF orientation; 1 is upright."""


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise UndecodableImage(f"image of {width}x{height} pixels; each side must have at least 1")
    if width * height > max_pixels:
        raise ImageTooLarge(f"image of {width}x{height} pixels; at most {max_pixels} pixels are accepted")


def _admit(source: Source, limits: ImageLimits) -> None:
    """Refuse what would cost too much, before any pixel buffer exists."""
    width, height, coding = source.width, source.height, source.coding
    max_pixels = {
        "jpeg": limits.max_jpeg_pixels,
        "webp": limits.max_webp_pixels,
        "lossless webp": limits.max_lossless_webp_pixels,
        "run-length bmp": min(limits.max_pixels, MAX_RUN_LENGTH),
    }.get(coding, limits.max_pixels)  # also "jpeg in scans": all its coefficients are held
    _check_size(width, height, max_pixels)
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        ratio = f"{limits.max_aspect_ratio:g}"
        raise ImageTooLarge(f"image of {width}x{height} pixels; the aspect ratio may be at most {ratio}:1")
    max_scans = MAX_SCAN_PIXELS // max(width * height, MIN_SCAN_PIXELS)
    if coding == "jpeg in scans" and source.scans > max_scans:
        raise ImageTooLarge(f"JPEG of {source.scans} scans; at most {max_scans} at {width}x{height} pixels")
    if coding == "run-length bmp" and len(source.data) > MAX_RUN_LENGTH:
        raise ImageTooLarge(f"run-length BMP of {len(source.data)} bytes; at most {MAX_RUN_LENGTH} bytes")


def decode(data: bytes, spec: InputSpec, limits: ImageLimits) -> NDArray[np.uint8]:
    """Decode one image file to what a network takes.

    Args:
        data: The encoded file: JPEG (also MPO), PNG, WebP, GIF or BMP.
        spec: Size of the result.
        limits: What the image may cost.

    Returns:
        The oriented, resized, centre-cropped image: uint8 (3, H, W), RGB, 0..255, C-contiguous and writable.

    Raises:
        ImageTooLarge: Bytes, pixels, scans or aspect ratio over the limit.
        UnsupportedImage: None of the five formats by its magic bytes.
        UndecodableImage: Broken or truncated.
    """
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"image of {len(data)} bytes; at most {limits.max_bytes} are accepted")
    if not data:
        raise UnsupportedImage("the image is empty; send the bytes of a JPEG, PNG, WebP, GIF or BMP")
    container = sniff(data)
    if container is None:
        raise UnsupportedImage("image is not JPEG, PNG, WebP, GIF or BMP by its first bytes")
    try:
        source = read(data, container)
        _admit(source, limits)
        return _planes(_fit(_load(source, container, spec, limits), spec))
    except BrokenHeader as error:
        raise UndecodableImage(str(error)) from error
    except _BROKEN as error:
        raise UndecodableImage(f"{container} of {len(data)} bytes is broken or truncated") from error


def _load(source: Source, container: str, spec: InputSpec, limits: ImageLimits) -> Image.Image:
    """Have Pillow decode an admitted file; the result is flattened and upright."""
    image: Image.Image = Image.open(BytesIO(source.data), formats=(container,))
    if image.size != (source.width, source.height):  # our reader and Pillow disagree: an attack, or our bug
        raise UndecodableImage(f"{container} of {len(source.data)} bytes with a contradictory header")
    if container == "JPEG":
        image.draft(None, (spec.resize, spec.resize))  # shrinks by 2, 4 or 8 while decoding
        _check_size(*image.size, limits.max_pixels)
    exif = source.exif or image.info.get("exif")
    image.load()
    if container == "PNG" and image.mode in ("1", "L") and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2 ** source.data[24] - 1)  # Pillow scaled the pixels only
    image = flatten(image)
    method = _UPRIGHT.get(orientation(exif)) if exif else None
    return image if method is None else image.transpose(method)


def _fit(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Resize the short side to ``spec.resize`` and crop the centre, computing no pixel outside the crop.

    Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them.
    """
    (width, height), short = image.size, min(image.size)
    scaled_width, scaled_height = width * spec.resize // short, height * spec.resize // short
    left, top = round((scaled_width - spec.width) / 2), round((scaled_height - spec.height) / 2)
    right, bottom = left + spec.width, top + spec.height
    if short == spec.resize:
        return image if image.size == (spec.width, spec.height) else image.crop((left, top, right, bottom))
    x, y = width / scaled_width, height / scaled_height
    box = (left * x, top * y, right * x, bottom * y)
    return image.resize((spec.width, spec.height), Image.Resampling[spec.interpolation.upper()], box)


def _planes(image: Image.Image) -> NDArray[np.uint8]:
    """Turn a flattened image into uint8 (3, H, W)."""
    # (H, W, bands); np.asarray(image) would do, but takes 2 us longer, of 55 for a small PNG
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)
    if image.mode == "L":
        return np.repeat(pixels.transpose(2, 0, 1), 3, axis=0)  # (H, W, 1) -> (3, H, W)
    if image.mode == "RGBa":
        pixels = pixels[..., :3] + (255 - pixels[..., 3:])  # over white; premultiplied, so never above 255
    return pixels.transpose(2, 0, 1).copy()  # (H, W, 3) -> (3, H, W)
