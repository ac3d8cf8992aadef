"""Row 11: launches that raise, run out of memory or return no numbers. Nobody gets a wrong answer."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from conftest import SmallStore, small_manifest, small_net
from figures import Figure
from hosted import Hosted, counted, hosted, known
from PIL import Image as PillowImage

from model_store.nets.staged import Features, Span
from model_store.store import Store

IMAGES = 48

STAGEWISE = {"X-FLOP-Limit": "100M", "X-Deadline-Ms": "60000"}
"""Consults each exit on the way to the last: several launches for an image, and always the same answer."""


def allocate_too_much() -> None:
    torch.empty(2**55)


def find_no_array() -> None:
    np.empty(2**55)


def lack_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")


def lack_host_memory() -> None:
    raise RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223: std::bad_alloc")


@pytest.fixture
def server(small_store: SmallStore, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosted]:
    """By the executor that is asked for, or eager torch."""
    chosen = {"executor": getattr(request, "param", "torch"), "cache_dir": tmp_path}
    with hosted(
        small_store.root, latency_objective_s=60, **chosen
    ) as running:  # longer deadlines are patient
        yield running


def ask(server: Hosted, bodies: list[bytes]) -> list[httpx.Response]:
    """All at once, or nearly so."""

    def one(body: bytes) -> httpx.Response:
        return server.client.post("/classify", content=body, headers=STAGEWISE)

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(one, bodies))


def said(answer: httpx.Response) -> Any:
    """What does not depend on times and neighbours."""
    return known(answer.json()["predictions"][0]) if answer.status_code == 200 else answer.json()["code"]


def judged(answers: list[httpx.Response], alone: list[Any]) -> tuple[Counter[int], int]:
    """Statuses, and how many of the 200s are not what the image got when it was alone."""
    wrong = sum(
        answer.status_code == 200 and said(answer) != expected
        for answer, expected in zip(answers, alone, strict=True)
    )
    return Counter(answer.status_code for answer in answers), wrong


def is_ready(server: Hosted) -> bool:
    return server.client.get("/readyz").status_code == 200


def seconds_until_ready(server: Hosted) -> float:
    started_s = time.monotonic()
    while not is_ready(server):
        assert time.monotonic() < started_s + 30, "it never got ready"
        time.sleep(0.02)
    return time.monotonic() - started_s


@pytest.mark.parametrize(
    ("server", "fail"),
    [
        ("torch", allocate_too_much),
        ("torch", find_no_array),
        ("torch", lack_gpu_memory),
        ("openvino", lack_host_memory),
    ],
    indirect=["server"],
)
def test_a_batch_without_room_is_run_in_halves_and_only_what_has_none_alone_fails(
    server: Hosted, png: Callable[[int], bytes], figure: Figure, fail: Callable[[], None]
) -> None:
    bodies = [png(i) for i in range(IMAGES)]
    alone = [said(ask(server, [body])[0]) for body in bodies]
    faults = server.faults()
    poison = np.asarray(PillowImage.open(io.BytesIO(bodies[7]))).transpose(2, 0, 1)

    def lack(span: Span, features: Features) -> None:
        images = features[0].numpy()
        if len(images) > 2 or (span.first == 0 and (images == poison).all((1, 2, 3)).any()):
            fail()

    faults.before = lack
    files = [("image", body) for body in bodies if body is not bodies[7]]
    together = server.client.post("/classify", files=files, headers=STAGEWISE)
    answers = ask(server, bodies)
    statuses, wrong = judged(answers, alone)
    halved = server.sample("exitramp_device_failures_total", model="small", reason="out_of_memory")
    figure(
        11,
        f"out of memory beyond 2 images, and for one image always ({fail.__name__}): {counted(answers)}, "
        f"{wrong} wrong; one request of {len(files)} images {together.status_code}; {halved:.0f} "
        "launches failed; ready throughout",
    )
    others = [expected for i, expected in enumerate(alone) if i != 7]
    assert [known(entry) for entry in together.json()["predictions"]] == others
    assert statuses == {200: IMAGES - 1, 500: 1} and wrong == 0 and halved > 0
    assert answers[7].json()["code"] == "internal_error"
    assert is_ready(server)


def test_a_launch_that_raises_fails_its_own_images_and_no_others(
    server: Hosted, png: Callable[[int], bytes], figure: Figure
) -> None:
    bodies = [png(i) for i in range(IMAGES)]
    alone = [said(ask(server, [body])[0]) for body in bodies]
    faults, lost = server.faults(), list[int]()

    def fail_now_and_then(_: Span, features: Features) -> None:
        if len(faults.launches) % 5 == 0:
            lost.append(len(features[0]))
            raise RuntimeError("an illegal instruction was encountered")

    faults.before = fail_now_and_then
    answers = ask(server, bodies)
    statuses, wrong = judged(answers, alone)
    figure(
        11,
        f"every fifth launch raises: {counted(answers)}, {wrong} wrong, {sum(lost)} images in "
        f"{len(lost)} failed launches; ready throughout",
    )
    assert lost and statuses == {200: IMAGES - sum(lost), 500: sum(lost)} and wrong == 0
    assert {answer.json()["code"] for answer in answers if answer.status_code == 500} == {"internal_error"}
    assert is_ready(server)
    faults.before = lambda *_: None
    assert judged(ask(server, bodies), alone) == ({200: IMAGES}, 0)


def test_an_image_that_overflows_takes_no_other_with_it(server: Hosted, png: Callable[[int], bytes]) -> None:
    bodies = [png(i) for i in range(IMAGES)]
    alone = [said(ask(server, [body])[0]) for body in bodies]
    faults = server.faults()

    def overflow(logits: torch.Tensor) -> torch.Tensor:
        rows = faults.seen[0].flatten(1).eq(torch.from_numpy(poison).flatten()).all(1)
        return torch.where(rows[:, None], torch.full_like(logits, torch.inf), logits)

    poison = np.asarray(PillowImage.open(io.BytesIO(bodies[3]))).transpose(2, 0, 1).copy()
    faults.after = lambda logits: overflow(logits) if faults.launches[-1][0].first == 0 else logits
    answers = ask(server, bodies)
    assert judged(answers, alone) == ({200: IMAGES - 1, 500: 1}, 0)
    assert answers[3].status_code == 500 and is_ready(server)


@pytest.fixture
def of_two(tmp_path: Path) -> Iterator[Hosted]:
    """With another model beside the default one."""
    for name, seed in (("small", 0), ("other", 1)):
        Store(tmp_path).publish(*small_manifest(small_net(seed), name=name, task=name))
    with hosted(tmp_path, models=("small", "other"), latency_objective_s=60) as running:
        yield running


def test_weights_that_are_no_numbers_are_refused_at_once_until_they_are_mended(
    of_two: Hosted, png: Callable[[int], bytes], figure: Figure
) -> None:
    bodies, server = [png(i) for i in range(IMAGES)], of_two
    alone = [said(ask(server, [body])[0]) for body in bodies]
    faults = server.faults()
    net = server.service.lifecycle.registry.models["small@1"].executor._net  # type: ignore[attr-defined]
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        for value in net.parameters():
            value.fill_(torch.nan)
    first = [ask(server, [body])[0] for body in bodies[:5]]
    launched = len(faults.launches)
    then = ask(server, bodies)
    probe, other = server.client.get("/readyz"), {"X-Model": "other"}
    protocol = [server.client.get(f"/v2/{path}/ready") for path in ("health", "models/small", "models/other")]
    beside = [server.client.post("/classify", content=body, headers=other) for body in bodies]
    in_vain = len([span for span, images in faults.launches[launched:] if images > 1])
    net.load_state_dict(kept)
    ready_s = seconds_until_ready(server)
    again = ask(server, bodies)
    statuses, wrong = judged(again, alone)
    failed = server.sample("exitramp_device_failures_total", model="small", reason="not_finite")
    figure(
        11,
        f"NaN weights: {counted(first)} one by one, then {counted(then)} without a launch, {failed:.0f} "
        f"launches failed; another model {counted(beside)}; mended: ready after {ready_s:.2f} s, then "
        f"{counted(again)}, {wrong} wrong",
    )
    assert [one.status_code for one in first] == [500, 500, 500, 503, 503]
    assert {(one.status_code, said(one), one.headers["retry-after"]) for one in then} == {
        (503, "not_ready", "1")
    }
    assert (probe.status_code, probe.json()["code"]) == (503, "not_ready") and "small@1" in probe.json()[
        "detail"
    ]
    assert [one.status_code for one in protocol] == [503, 503, 200]
    assert {one.status_code for one in beside} == {200} and in_vain == 0
    assert statuses == {200: IMAGES} and wrong == 0
