"""Whatever the bytes: an array or an ImageError, within a second and without much memory."""

from __future__ import annotations

import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from mutations.formats import chunk, encode, png_header, rle_bmp, tiff, webp
from mutations.mutator import Mutator
from mutations.originals import originals, variants
from PIL import Image

from model_store import containers
from model_store.preprocess import ImageError, ImageLimits, InputSpec, decode, sniff

SPEC = InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3, resize=32)
LIMITS = ImageLimits()
CODES = ("too_large", "undecodable_image", "unsupported_media_type")
MIB = 2**20


COLOUR = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 36, 3), dtype=np.uint8))
RED, BLUE = (Image.new("RGB", (8, 8), name) for name in ("red", "blue"))
SAMPLES = variants(COLOUR)
SAMPLES.pop("jpeg arithmetic")  # refused, see below


def outcome(data: bytes) -> str:
    start_s = time.process_time()  # of this process: the machine may be busy
    try:
        assert decode(data, SPEC, LIMITS).shape == (3, 32, 32)
        result = "ok"
    except ImageError as error:
        result = f"{error.code}: {error.detail}"
    assert time.process_time() - start_s < 1, result
    return result


@pytest.mark.parametrize("name", SAMPLES)
def test_a_truncated_file_is_an_error_of_the_client_or_still_an_image(name: str) -> None:
    data = SAMPLES[name]
    assert outcome(data) == "ok"
    results = [outcome(data[:length]) for length in range(0, len(data), max(1, len(data) // 60))]
    assert results[0].startswith("unsupported_media_type")
    assert any(result.startswith("undecodable_image") for result in results)


@pytest.mark.parametrize("container", ["jpeg", "png", "gif", "webp", "bmp"])
def test_a_mutated_file_raises_nothing_but_image_errors(container: str) -> None:
    files = {name: data for name, data in originals().items() if f": {container}" in name}
    results = [outcome(mutant.data) for mutant in Mutator(files, seed=2).some(300)]
    assert {result.partition(":")[0] for result in results} == {"ok", *CODES}
    assert len(set(results)) > 60, "the mutations must reach different places"


PNG, JPEG, GIF = (encode(RED, container) for container in ("PNG", "JPEG", "GIF"))
TABLES, IMAGE = JPEG.find(b"\xff\xdb"), GIF.find(b",")
BEYOND = b"," + struct.pack("<HHHH", 60_000, 0, 5000, 60_000)
PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(MIB), 9))
HUGE, EMPTY = (png_header(width, 60_000) for width in (60_000, 0))
BIG_TABLE = b"\xff\xdb" + struct.pack(">H", 2 + 65 * 1000) + JPEG[TABLES + 4 : TABLES + 69] * 1000


def scans(size: int, copies: int) -> bytes:
    data = encode(Image.new("L", (size, size)), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * copies + b"\xff\xd9"


ATTACKS = {
    "png bomb": (PNG[:8] + HUGE + PNG[33:], "too_large: image of 60000x60000 pixels"),
    "png without pixels": (PNG[:8] + EMPTY + PNG[33:], "undecodable_image: image of 0x60000 pixels"),
    "png of colour profiles": (PNG[:33] + PROFILE * 9000 + PNG[33:], "ok"),  # Pillow alone: 5 s
    "png of tiny chunks": (PNG[:33] + chunk(b"abCd", b"") * 800_000 + PNG[33:], "undecodable_image"),
    "png with two headers": (PNG[:33] + HUGE + PNG[33:], "ok"),
    "jpeg of junk": (JPEG[:TABLES] + bytes(9 * MIB) + JPEG[TABLES:], "ok"),
    "jpeg of fill bytes": (
        JPEG[:TABLES] + b"\xff" * 9 * MIB + JPEG[TABLES:],
        "undecodable_image: JPEG of more",
    ),
    "jpeg of tables": (JPEG[:TABLES] + JPEG[TABLES : TABLES + 69] * 100 + JPEG[TABLES:], "undecodable_image"),
    "jpeg of big tables": (JPEG[:TABLES] + BIG_TABLE * 50 + JPEG[TABLES:], "ok"),
    "jpeg of 16 big scans": (scans(3500, 10), "ok"),
    "jpeg of 17 big scans": (scans(3500, 11), "too_large: JPEG of 17 scans; at most 16"),
    "jpeg of many small scans": (scans(8, 756), "ok"),
    "jpeg of too many small scans": (scans(8, 757), "too_large: JPEG of 763 scans; at most 762"),
    "jpeg 19,808 times as wide as high": (encode(Image.new("RGB", (59_424, 3)), "JPEG"), "too_large"),
    "jpeg with arithmetic coding": (
        JPEG.replace(b"\xff\xc0", b"\xff\xc9"),
        "undecodable_image: JPEG that is",
    ),
    "gif of sub-blocks": (
        GIF[:IMAGE] + b"!\xfe" + b"\1a" * 4 * MIB + b"\0" + GIF[IMAGE:],
        "undecodable_image",
    ),
    "gif of a frame beyond its screen": (
        GIF[:IMAGE] + BEYOND + GIF[IMAGE + 9 :],
        "too_large: image of 65000x60",
    ),
    "webp bomb": (webp(b"VP8X", bytes(4) + b"\xff\x3f\0" * 2), "too_large: image of 16384x16384"),
    "webp lossless": (
        webp(b"VP8L", b"\x2f" + struct.pack("<I", 512 | 511 << 14)),
        "too_large: image of 513x512",
    ),
    "bmp bomb": (b"BM" + bytes(12) + struct.pack("<IIi", 40, 2**31, -(2**31)) + bytes(30), "too_large"),
    "bmp of idle runs": (rle_bmp(1024, 1024, b"\0\2\0\0" * 260_000), "undecodable_image"),
    "bmp of too many runs": (rle_bmp(64, 64, b"\1\5" * MIB), "too_large: run-length BMP of 2098230 bytes"),
    "bmp of empty lines": (rle_bmp(1024, 1024, b"\1\5\0\0" * 1024 + b"\0\1"), "ok"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_time_or_memory_ends_within_a_second(name: str) -> None:
    assert outcome(ATTACKS[name][0]).startswith(ATTACKS[name][1])


def peak_kib() -> int:
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to reset the peak memory")
def test_a_jpeg_of_25_megapixels_is_shrunk_while_it_is_decoded() -> None:
    data = encode(COLOUR.resize((5000, 5000)), "JPEG")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before_kib, result = peak_kib(), outcome(data)
    assert result == "ok" and peak_kib() - before_kib < 24 * 1024  # 100 MB if it were decoded whole


def is_red(data: bytes) -> bool:
    red, _, blue = decode(data, SPEC, LIMITS).mean(axis=(1, 2))
    return bool(red > 240 and blue < 15)


@pytest.mark.parametrize("container", ["PNG", "GIF", "WEBP", "MPO"])
def test_of_several_frames_the_first_counts(container: str) -> None:
    assert is_red(encode(RED, container, save_all=True, append_images=[BLUE, BLUE]))


@pytest.mark.parametrize("data", [PNG + b"<html>", JPEG + b"PK\x03\x04" + PNG, GIF + JPEG, GIF + b"*/"])
def test_a_polyglot_is_the_image_at_its_head(data: bytes) -> None:
    assert is_red(data)
    assert sniff(b"%PDF-1.7\n" + data) is None


def test_the_header_tells_how_the_pixels_are_coded() -> None:
    one_of_three = JPEG.replace(b"\xff\xda\0\x0c\3", b"\xff\xda\0\x0c\1")  # the first of several scans
    assert containers.read(one_of_three, "JPEG")[3:5] == ("jpeg in scans", 1)
    assert containers.read(SAMPLES["jpeg progressive"], "JPEG")[3:5] == ("jpeg in scans", 10)
    assert containers.read(SAMPLES["webp alpha"], "WEBP").coding == "lossless webp"
    assert containers.read(JPEG + b"\xff\xda" + JPEG, "JPEG") == containers.read(JPEG, "JPEG")


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_found_in_either_byte_order_and_nonsense_is_upright(order: str) -> None:
    found = [containers.orientation(tiff(value, order, more=2)) for value in range(10)]
    assert found == [1, 1, 2, 3, 4, 5, 6, 7, 8, 1]
    six = tiff(6, order, more=2)
    assert containers.orientation(b"Exif\0\0" + six) == 6
    for broken in (b"", b"Exif\0\0", tiff(6, order, kind=4), six[:-9], six[:8], b"XX" + six):
        assert containers.orientation(broken) == 1


def test_exif_that_refers_to_one_block_two_thousand_times_is_not_unfolded() -> None:
    tags = b"".join(struct.pack("<HHII", 0x9000 + index, 7, 40_000, 8) for index in range(2000))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2000) + tags + bytes(35_000)
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    assert b"Exif" not in containers.read(data, "JPEG").data  # Pillow would parse it at open
    assert outcome(data) == "ok"
