"""The same hostile file always gets the same answer, in bounded time and memory, and a picture its pixels."""

from __future__ import annotations

import ctypes
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SmallStore
from figures import Figure
from hostile_files import HOSTILE
from hostile_pictures import Picture, pictures
from live import Server, serving

from model_store.preprocess import ImageError, ImageLimits, InputSpec, decode

ANSWERS: dict[str, str] = json.loads((Path(__file__).parent / "hostile_images.json").read_text())
"""``200``, or status, code and detail, by the name of the file."""

PICTURES = pictures()
SPEC = InputSpec(height=128, width=128, mean=(0.5,) * 3, std=(0.25,) * 3, resize=128)
LIMITS = ImageLimits()
MAX_PEAK_KIB = 150 * 1024
LONGEST_S = 1.0


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving(settings) as running:
        yield running


def answer(data: bytes) -> str:
    """What the guard says, as the table has it."""
    try:
        assert decode(data, SPEC, LIMITS).shape == (3, 128, 128)
    except ImageError as error:
        return f"{error.status} {error.code}: {error.detail}"
    return "200"


def peak_kib(work: Callable[[], object]) -> int:
    """Memory that ``work`` takes at its worst beyond what there was; none of it is found in the heap."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before_kib = _high_water_kib()
    work()
    return _high_water_kib() - before_kib


def _high_water_kib() -> int:
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def test_every_hostile_file_has_an_answer_and_every_answer_a_file() -> None:
    assert ANSWERS.keys() == HOSTILE.keys()


def test_each_hostile_file_gets_its_answer_within_a_second_of_processor_time(figure: Figure) -> None:
    seen, slowest_s = {}, (0.0, "")
    for name, build in HOSTILE.items():
        data, started_s = build(), time.process_time()
        seen[name] = answer(data)
        slowest_s = max(slowest_s, (time.process_time() - started_s, name))
    figure(2, f"{len(HOSTILE)} hostile files: slowest {slowest_s[0] * 1000:.0f} ms, {slowest_s[1]!r}")
    assert seen == ANSWERS
    assert slowest_s[0] < LONGEST_S


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to reset the peak memory")
def test_no_hostile_file_takes_more_than_150_mib(figure: Figure) -> None:
    files = {name: build() for name, build in HOSTILE.items()}
    peaks = {name: peak_kib(lambda data=data: answer(data)) for name, data in files.items()}  # type: ignore[misc]
    worst = max(peaks, key=peaks.__getitem__)
    figure(2, f"{len(HOSTILE)} hostile files: at most {peaks[worst] / 1024:.0f} MiB, {worst!r}")
    assert 100 * 1024 < peaks[worst] <= MAX_PEAK_KIB, "the largest image that is accepted takes its memory"


def test_over_http_each_hostile_file_gets_the_same_answer(server: Server, figure: Figure) -> None:
    statuses: Counter[int] = Counter()
    for name, expected in ANSWERS.items():
        response = server.client.post("/classify", content=HOSTILE[name]())
        body = response.json()
        said = "200" if response.is_success else f"{response.status_code} {body['code']}: {body['detail']}"
        assert said == expected, name
        statuses[response.status_code] += 1
    figure(2, f"hostile files over HTTP: {', '.join(f'{n} x {status}' for status, n in statuses.items())}")


@pytest.mark.parametrize("name", PICTURES)
def test_in_every_mode_and_orientation_the_picture_is_what_a_viewer_shows(name: str) -> None:
    picture: Picture = PICTURES[name]
    pixels = decode(picture.data, SPEC, LIMITS).transpose(1, 2, 0)
    assert np.abs(pixels - picture.shown).mean() <= picture.away
