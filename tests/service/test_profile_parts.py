"""Every part can be timed alone, and is the part that the service runs."""

from __future__ import annotations

import pytest
from conftest import SmallStore, random_images
from engines import torch_model

from model_store.nets.staged import Span
from service.loading import load_model
from service.profiling import parts
from service.profiling.span_times import Launcher
from service.settings import Settings

RAW = [(b"content-type", b"application/octet-stream"), (b"x-flop-budget", b"2M")]


def test_a_part_has_median_and_deciles_of_its_rounds() -> None:
    found = parts.part("it", [number / 1e6 for number in range(1, 12)])
    assert (found.median_us, found.low_us, found.high_us) == pytest.approx((6, 2, 10))


def test_warming_up_does_not_count() -> None:
    calls: list[int] = []
    parts.timed("it", lambda: calls.append(1), 20)
    assert len(calls) == 22


def test_small_images_are_decoded_from_every_format(small_store: SmallStore) -> None:
    found = parts.small_formats(list(random_images(3)), small_store.artifact.manifest.input, 3)
    assert [part.name for part in found] == [f"decode {kind} 32x32" for kind in ("PNG", "JPEG", "WEBP")]
    assert all(part.median_us > 0 for part in found)


async def test_the_hop_goes_through_the_engine_to_the_first_exit(small_store: SmallStore) -> None:
    model = torch_model(small_store)
    hop, answer = await parts.engine_hop(model, random_images(1)[0], 3, 0.0)
    assert (answer.exit, answer.classes[0]) == (1, 0)
    assert hop.median_us > 0
    assert parts.json_body(model, answer, RAW, 3).median_us > 0


async def test_the_application_answers_without_a_server_around_it(small_store: SmallStore) -> None:
    settings = Settings(model_store=small_store.root, models=("small",), executor="null")
    file = parts.encode(random_images(1)[0], "PNG")
    part = await parts.application(settings, file, RAW, 3)
    assert part.median_us > parts.header_checks(RAW, 3).median_us


def test_gathering_and_reading_are_timed_by_batch_size(small_store: SmallStore) -> None:
    model = torch_model(small_store)
    launcher = Launcher(model, list(random_images(4)))
    try:
        gathered = parts.gathering(launcher, Span(0, 1), 4, 3)
    finally:
        launcher.close()
    assert gathered.name == "gather, 4 for span 1-2" and gathered.median_us > 0
    assert parts.reading(model, 4, 3).name == "exits.read, 4 images"


def test_a_service_without_its_network_says_so(small_store: SmallStore) -> None:
    settings = Settings(model_store=small_store.root, models=("small",), executor="null")
    assert load_model(settings, "small").executor.device == "null"
