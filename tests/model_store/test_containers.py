"""Whatever the bytes: an array or an ImageError, within a second and without much memory."""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations.formats import encode, tiff
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


TOLD = re.compile(
    "image (is not JPEG, PNG, WebP, GIF or BMP by its first bytes|of [-x0-9]+ (bytes|pixels); [a-z 0-9:]+)"
    "|the image is empty; send the bytes of a JPEG, PNG, WebP, GIF or BMP"
    "|(JPEG|PNG|WEBP|WebP|GIF|BMP|run-length BMP) (of|that is|without) [-A-Za-z0-9 ;]+"
)
"""Details are sentences of ours about sizes and formats: no path, no quotes, no text of an exception."""


@given(
    st.sampled_from((b"", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"\xff\xd8\xff", b"GIF89a", b"BM")), st.binary()
)
def test_whatever_the_bytes_the_detail_says_nothing_internal(head: bytes, body: bytes) -> None:
    result = outcome(head + body)
    assert result == "ok" or TOLD.fullmatch(result.partition(": ")[2]), result


def test_of_mutants_too_the_detail_says_nothing_internal() -> None:
    results = {outcome(mutant.data) for mutant in Mutator(originals(), seed=7).some(500)} - {"ok"}
    assert not [result for result in results if not TOLD.fullmatch(result.partition(": ")[2])]


PNG, JPEG, GIF = (encode(RED, container) for container in ("PNG", "JPEG", "GIF"))


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
