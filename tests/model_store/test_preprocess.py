"""Bytes become the array that the network expects, or an error that says which limit was passed."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from mutations.formats import encode, png, rle_bmp
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import ValidationError

from model_store.pixels import flatten
from model_store.preprocess import ImageError, ImageLimits, InputSpec, decode

LIMITS = ImageLimits()
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def spec(side: int, resize: int | None = None) -> InputSpec:
    return InputSpec(height=side, width=side, mean=(0.5,) * 3, std=(0.25,) * 3, resize=resize or side)


def even(value: int | tuple[int, ...]) -> NDArray[np.int64]:
    return np.broadcast_to(np.array(value), (8, 8, *np.shape(value)))


def solid(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (8, 8), colour)


def palette_image() -> Image.Image:
    image = solid("P", 1)
    image.putpalette([0, 0, 0, *ORANGE])
    return image


ORANGE, DEEP_ORANGE = (200, 100, 50), (0xC801, 0x6402, 0x3203)
DEEP_KEY = struct.pack(">HHH", *DEEP_ORANGE)
ORANGE_RUNS = rle_bmp(8, 8, b"\x08\x07\0\0" * 8 + b"\0\1", bytes((50, 100, 200, 0)) * 256)
UNMIXED = encode(solid("RGB", ORANGE), "JPEG", quality=95, keep_rgb=True)
for letter, number in ((b"R", b"\1"), (b"G", b"\2"), (b"B", b"\3")):  # now only its Adobe segment says so
    UNMIXED = UNMIXED.replace(letter + b"\x11\0", number + b"\x11\0").replace(letter + b"\0", number + b"\0")
FILES: dict[str, tuple[bytes, tuple[int, int, int], int]] = {  # bytes, expected colour, tolerance
    "png rgb": (encode(solid("RGB", ORANGE), "PNG"), ORANGE, 0),
    "png rgb with colour key": (encode(solid("RGB", ORANGE), "PNG", transparency=ORANGE), (255,) * 3, 0),
    "png rgb, another key": (encode(solid("RGB", ORANGE), "PNG", transparency=(1, 2, 3)), ORANGE, 1),
    "png rgba opaque": (encode(solid("RGBA", (*ORANGE, 255)), "PNG"), ORANGE, 0),
    "png rgba transparent": (encode(solid("RGBA", (*ORANGE, 0)), "PNG"), (255,) * 3, 0),
    "png rgba half": (encode(solid("RGBA", (*ORANGE, 128)), "PNG"), (227, 177, 152), 1),
    "png black": (encode(solid("1", 0), "PNG"), (0, 0, 0), 0),
    "png white": (encode(solid("1", 1), "PNG"), (255,) * 3, 0),
    "png black as key": (encode(solid("1", 0), "PNG", transparency=0), (255,) * 3, 0),
    "png grey": (encode(solid("L", 77), "PNG"), (77,) * 3, 0),
    "png grey as key": (encode(solid("L", 77), "PNG", transparency=77), (255,) * 3, 0),
    "png grey with alpha": (encode(solid("LA", (77, 128)), "PNG"), (166,) * 3, 1),
    "png palette": (encode(palette_image(), "PNG"), ORANGE, 0),
    "png palette, entry transparent": (encode(palette_image(), "PNG", transparency=1), (255,) * 3, 0),
    "png palette with alphas": (encode(palette_image(), "PNG", transparency=b"\xff\x80"), (227, 177, 152), 1),
    "png 2-bit grey": (png(even(2), 2), (170,) * 3, 0),
    "png 1-bit white as key": (png(even(1), 1, key=b"\0\1"), (255,) * 3, 0),
    "png 1-bit black, white as key": (png(even(0), 1, key=b"\0\1"), (0,) * 3, 0),
    "png 2-bit grey as key": (png(even(2), 2, key=b"\0\2"), (255,) * 3, 0),
    "png 4-bit grey as key": (png(even(3), 4, key=b"\0\3"), (255,) * 3, 0),
    "png 4-bit grey, another key": (png(even(3), 4, key=b"\0\4"), (51,) * 3, 0),
    "png 16-bit grey": (encode(Image.fromarray(np.full((8, 8), 0x4D80, np.uint16)), "PNG"), (0x4D,) * 3, 0),
    "png 16-bit grey as key": (png(even(0x4D80), 16, key=b"\x4d\x80"), (255,) * 3, 0),
    "png 16-bit grey, key near": (png(even(0x4D80), 16, key=b"\x4d\x81"), (0x4D,) * 3, 0),
    "png 16-bit grey with alpha": (png(even((0x4D80, 0xFFFF)), 16), (0x4D,) * 3, 0),
    "png 16-bit rgb": (png(even(DEEP_ORANGE), 16), ORANGE, 0),
    "png 16-bit rgb as key": (png(even(DEEP_ORANGE), 16, key=DEEP_KEY), (255,) * 3, 0),
    "png 16-bit rgba": (png(even((*DEEP_ORANGE, 0xFFFF)), 16), ORANGE, 0),
    "gif palette": (encode(palette_image(), "GIF"), ORANGE, 0),
    "gif transparent": (encode(palette_image(), "GIF", transparency=1), (255,) * 3, 0),
    "gif grey": (encode(solid("L", 77), "GIF"), (77,) * 3, 0),
    "bmp rgb": (encode(solid("RGB", ORANGE), "BMP"), ORANGE, 0),
    "bmp 32-bit, the fourth byte unused": (encode(solid("RGBA", (*ORANGE, 0)), "BMP"), ORANGE, 0),
    "bmp palette": (encode(palette_image(), "BMP"), ORANGE, 0),
    "bmp run-length": (ORANGE_RUNS, ORANGE, 0),
    "jpeg rgb": (encode(solid("RGB", ORANGE), "JPEG", quality=95), ORANGE, 3),
    "jpeg stored as rgb": (UNMIXED, ORANGE, 3),
    "jpeg grey": (encode(solid("L", 77), "JPEG", quality=95), (77,) * 3, 2),
    "jpeg cmyk": (encode(solid("CMYK", (55, 155, 205, 0)), "JPEG", quality=95), ORANGE, 3),
    "jpeg progressive": (encode(solid("RGB", ORANGE), "JPEG", quality=95, progressive=True), ORANGE, 3),
    "webp rgb": (encode(solid("RGB", ORANGE), "WEBP", lossless=True), ORANGE, 0),
    "webp lossy": (encode(solid("RGB", ORANGE), "WEBP", quality=95), ORANGE, 4),
    "webp half": (encode(solid("RGBA", (*ORANGE, 128)), "WEBP", lossless=True), (227, 177, 152), 1),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_mode_becomes_its_colours_on_white(name: str) -> None:
    data, colour, tolerance = FILES[name]
    pixels = decode(data, spec(8), LIMITS)
    assert pixels.shape == (3, 8, 8)
    expected = np.array(colour, np.int16)[:, None, None]
    assert np.abs(pixels - expected).max() <= tolerance


MODES: dict[str, tuple[Image.Image, tuple[int, int, int]]] = {
    "I": (Image.fromarray(np.full((8, 8), 0x4D80, np.int32)), (0x4D,) * 3),
    "I beyond 16 bits": (Image.fromarray(np.full((8, 8), 1 << 20, np.int32)), (255,) * 3),
    "I;16B": (Image.frombytes("I;16B", (8, 8), b"\x4d\x80" * 64), (0x4D,) * 3),
    "F": (Image.fromarray(np.full((8, 8), 77.2, np.float32)), (77,) * 3),
    "La": (solid("LA", (77, 255)).convert("La"), (77,) * 3),
    "RGBa": (solid("RGBA", (*ORANGE, 255)).convert("RGBa"), ORANGE),
    "PA": (palette_image().convert("PA"), ORANGE),
    "CMYK": (solid("CMYK", (55, 155, 205, 0)), ORANGE),
    "HSV": (solid("RGB", (255, 0, 0)).convert("HSV"), (255, 0, 0)),
    "RGBX": (solid("RGBX", (*ORANGE, 0)), ORANGE),
}


@pytest.mark.parametrize("name", MODES)
def test_a_mode_that_no_file_has_today_is_flattened_all_the_same(name: str) -> None:
    image, colour = MODES[name]
    flat = flatten(image)
    assert flat.convert("RGBA" if flat.mode == "RGBa" else "RGB").getpixel((3, 3))[:3] == colour  # type: ignore[index]


def test_an_rgb_image_of_the_right_size_passes_bit_for_bit_into_memory_of_its_own() -> None:
    image = NOISE[:32, :32]
    pixels = decode(encode(Image.fromarray(image), "PNG"), spec(32), LIMITS)
    assert np.array_equal(pixels, image.transpose(2, 0, 1))
    assert (pixels.dtype.name, pixels.flags.c_contiguous, pixels.flags.writeable) == ("uint8", True, True)


def reference(image: Image.Image, side: int, resize: int) -> NDArray[np.int16]:
    short = min(image.size)
    size = (image.width * resize // short, image.height * resize // short)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    resized = image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return np.asarray(resized).transpose(2, 0, 1).astype(np.int16)


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (63, 48), (37, 41), (29, 61), (1, 1), (1, 50), (50, 1)])
@pytest.mark.parametrize(("side", "resize"), [(32, 32), (24, 32), (31, 48), (224, 224)])
def test_only_the_crop_is_computed_yet_it_equals_resizing_everything(
    size: tuple[int, int], side: int, resize: int
) -> None:
    image = Image.fromarray(NOISE).resize(size, Image.Resampling.NEAREST)
    pixels = decode(encode(image, "PNG"), spec(side, resize), LIMITS)
    assert np.abs(pixels - reference(image, side, resize)).max() <= 1


def test_hidden_colours_do_not_bleed_when_transparency_is_resized() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, ::2] = (255, 255, 255, 255)  # white stripes; between them black that nobody sees
    assert decode(encode(Image.fromarray(pixels), "PNG"), spec(32), LIMITS).min() >= 254


@pytest.mark.parametrize("container", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_exif_orientation_is_applied_before_the_crop(container: str, turn: int) -> None:
    image = Image.new("RGB", (64, 32), "white")
    for left, top, colour in ((16, 0, "red"), (32, 0, "lime"), (16, 16, "blue")):  # the quarters of the crop
        image.paste(colour, (left, top, left + 16, top + 16))
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(image, container, exif=exif, lossless=True, quality=95, subsampling=0)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
    assert upright.size == ((64, 32) if turn < 5 else (32, 64))
    assert np.abs(decode(data, spec(32), LIMITS) - reference(upright, 32, 32)).max() <= 1


def refusal(data: bytes, limits: ImageLimits, wanted: InputSpec | None = None) -> str | None:
    try:
        decode(data, wanted or spec(32), limits)
    except ImageError as error:
        return f"{error.status} {error.code}: {error.detail}"
    return None


def test_bytes_are_accepted_up_to_the_limit_and_not_one_more() -> None:
    data = encode(Image.fromarray(NOISE), "PNG")
    assert refusal(data, ImageLimits(max_bytes=len(data))) is None
    message = refusal(data, ImageLimits(max_bytes=len(data) - 1))
    assert message == f"413 too_large: image of {len(data)} bytes; at most {len(data) - 1} are accepted"


@pytest.mark.parametrize(
    ("container", "options", "field"),
    [
        *((container, {}, "max_pixels") for container in ("PNG", "GIF", "BMP")),
        ("JPEG", {}, "max_jpeg_pixels"),
        ("JPEG", {"progressive": True}, "max_pixels"),
        ("WEBP", {}, "max_webp_pixels"),
        ("WEBP", {"lossless": True}, "max_lossless_webp_pixels"),
    ],
)
def test_pixels_are_accepted_up_to_the_limit_and_not_one_more(
    container: str, options: dict[str, Any], field: str
) -> None:
    data = encode(Image.fromarray(NOISE), container, **options)
    assert refusal(data, ImageLimits.model_validate({field: 64 * 48})) is None
    message = refusal(data, ImageLimits.model_validate({field: 64 * 48 - 1}))
    assert message == "413 too_large: image of 64x48 pixels; at most 3071 pixels are accepted"


@pytest.mark.parametrize("size", [(50, 1), (1, 50), (100, 2)])
def test_an_aspect_ratio_of_fifty_is_the_most(size: tuple[int, int]) -> None:
    assert refusal(encode(Image.new("RGB", size), "PNG"), LIMITS) is None
    wider = (size[0] + (size[0] > 2), size[1] + (size[1] > 2))
    message = f"413 too_large: image of {wider[0]}x{wider[1]} pixels; the aspect ratio may be at most 50:1"
    assert refusal(encode(Image.new("RGB", wider), "PNG"), LIMITS) == message


def test_a_jpeg_counts_by_the_pixels_left_after_its_decoder_shrank_it() -> None:
    data = encode(Image.new("RGB", (1000, 800)), "JPEG")
    assert refusal(data, ImageLimits(max_pixels=125 * 100), spec(100)) is None
    assert "image of 125x100 pixels" in str(refusal(data, ImageLimits(max_pixels=125 * 100 - 1), spec(100)))


def test_what_is_no_image_is_a_415_and_what_is_a_broken_one_a_422_without_internals() -> None:
    for data in (b"", b"hello", b"%PDF-1.7", b"\0\0\0\x1cftypavif", b"II*\0", b"<svg/>", b"RIFF\0\0\0\0WAVE"):
        assert str(refusal(data, LIMITS)).startswith("415 unsupported_media_type")
    data = encode(Image.fromarray(NOISE), "PNG")[:-200]
    assert refusal(data, LIMITS) == f"422 undecodable_image: PNG of {len(data)} bytes is broken or truncated"


@pytest.mark.parametrize(
    "change",
    [{"height": 33}, {"width": 0}, {"std": (0, 1, 1)}, {"mean": (0, 0, 2)}, {"resize": 5000}, {"x": 1}],
)
def test_an_input_spec_refuses_nonsense(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InputSpec.model_validate(spec(32).model_dump() | change)
