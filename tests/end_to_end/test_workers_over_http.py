"""Several HTTP processes in front of one engine are, to a client, one server."""

from __future__ import annotations

import io
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import SmallStore
from live import Server, serving, start
from PIL import Image as PillowImage
from processes import cpu_ticks, workers

KEYS = {"keys": [{"name": "a", "sha256": "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"}]}
"""The digest is that of ``key``."""


@pytest.fixture(scope="module")
def settings(small_store: SmallStore) -> dict[str, str]:
    chosen = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    return {**chosen, "RECHECK_SHARE": "0", "BROWNOUT": "false"}


@pytest.fixture(scope="module")
def single(settings: dict[str, str]) -> Iterator[Server]:
    with serving({**settings, "HTTP_WORKERS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def several(settings: dict[str, str]) -> Iterator[Server]:
    with serving({**settings, "HTTP_WORKERS": "2"}) as running:
        yield running


def noise(side: int, seed: int = 0) -> bytes:
    """A PNG that takes long to decode."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def said(answer: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    """What an answer says, without its times and what is another one for each request."""
    headers = dict(answer.headers)
    for name in ("server-timing", "date", "x-request-id", "content-length"):
        headers.pop(name, None)
    if "json" not in answer.headers.get("content-type", "") or not answer.content:
        return answer.status_code, answer.content[:20], headers
    body = answer.json()
    for name in ("timing_ms", "request_id"):
        body.pop(name, None)
    if answer.status_code == 504:  # where it was noticed
        del body["detail"]
    return answer.status_code, body, headers


REQUESTS: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("image", {}),
    "the same again": ("image", {}),
    "budget": ("image", {"X-FLOP-Budget": "2M"}),
    "limit": ("image", {"X-FLOP-Limit": "3M"}),
    "budget and limit": ("image", {"X-FLOP-Budget": "2M", "X-FLOP-Limit": "3M"}),
    "deadline": ("image", {"X-Deadline-Ms": "5000"}),
    "passed deadline": ("image", {"X-Deadline-Ms": "0.001"}),
    "task": ("image", {"X-Model": "cifar10"}),
    "version": ("image", {"X-Model": "small@1"}),
    "unknown model": ("image", {"X-Model": "large"}),
    "unknown model and a broken image": ("broken", {"X-Model": "large"}),
    "bad budget": ("image", {"X-FLOP-Budget": "-1"}),
    "small budget": ("image", {"X-FLOP-Limit": "1"}),
    "small budget and a broken image": ("broken", {"X-FLOP-Limit": "1"}),
    "bad id": ("image", {"X-Request-Id": "a b"}),
    "bad model": ("image", {"X-Model": "ü".encode().decode("latin-1")}),
    "no image": ("text", {}),
    "broken image": ("broken", {}),
    "large picture": ("photo", {"X-FLOP-Budget": "2M"}),
    "compressed": ("image", {"Content-Encoding": "gzip"}),
    "nothing": ("empty", {}),
    "too long": ("long", {}),
    "form": ("image", {"Content-Type": "application/x-www-form-urlencoded"}),
    "not multipart": ("image", {"Content-Type": "multipart/form-data; boundary=x"}),
}


@pytest.fixture(scope="module")
def bodies(png: Callable[[int], bytes]) -> dict[str, bytes]:
    image = png(1)
    return {
        "image": image,
        "broken": image[:200],
        "text": b"no image at all",
        "empty": b"",
        "photo": noise(300),
        "long": b"\x89PNG" + bytes(11 * 2**20),
    }


@pytest.mark.parametrize("name", REQUESTS)
def test_every_answer_is_that_of_one_process(
    single: Server, several: Server, bodies: dict[str, bytes], name: str
) -> None:
    body, headers = REQUESTS[name]
    raw = {key: value.encode("latin-1") for key, value in headers.items()}
    answers = [
        server.client.post("/classify", content=bodies[body], headers=raw) for server in (single, several)
    ]
    assert said(answers[0]) == said(answers[1])
    assert answers[1].headers["x-request-id"] and answers[1].headers["date"]
    assert ("server-timing" in answers[1].headers) == (answers[1].status_code == 200)


def test_all_other_routes_are_passed_on(single: Server, several: Server, png: Callable[[int], bytes]) -> None:
    files = [("image", png(1)), ("image", png(2)), ("image", b"none")]
    for method, path, more in [
        ("POST", "/classify", {"files": files}),
        ("POST", "/classify/stream", {"content": png(1)}),
        ("POST", "/explain", {"content": png(1), "headers": {"X-FLOP-Limit": "100M"}}),
        ("GET", "/models", {}),
        ("GET", "/models/small", {}),
        ("GET", "/models/large?x=%20y", {}),
        ("GET", "/v2/models/small", {}),
        ("GET", "/", {}),
        ("HEAD", "/models", {}),
        ("GET", "/nowhere", {}),
        ("DELETE", "/classify", {}),
        ("GET", "/livez", {}),
        ("GET", "/readyz", {}),
        ("POST", "/v2/models/small/infer", {"json": {"inputs": []}}),
    ]:
        answers = [server.client.request(method, path, **more) for server in (single, several)]
        assert said(answers[0]) == said(answers[1]), path


def test_a_body_in_chunks_is_taken_and_one_too_long_refused(
    several: Server, bodies: dict[str, bytes]
) -> None:
    def pieces(body: bytes) -> Iterator[bytes]:
        for i in range(0, len(body), 2**16):
            yield body[i : i + 2**16]

    for path in ("/classify", "/explain"):
        whole = several.client.post(path, content=bodies["image"], headers={"X-FLOP-Limit": "100M"})
        cut = several.client.post(path, content=pieces(bodies["image"]), headers={"X-FLOP-Limit": "100M"})
        assert whole.status_code == 200 and said(cut) == said(whole)
        assert several.client.post(path, content=pieces(bodies["long"])).json()["code"] == "too_large"


def test_counts_of_all_processes_are_those_of_the_clients(
    settings: dict[str, str], bodies: dict[str, bytes]
) -> None:
    asked = [*REQUESTS.values()] * 4
    with serving({**settings, "HTTP_WORKERS": "2"}) as server:
        ready = server.metrics()

        def ask(request: tuple[str, dict[str, str]]) -> int:
            body, headers = request
            raw = {key: value.encode("latin-1") for key, value in headers.items()}
            # A connection of its own each, so that both processes get some.
            return httpx.post(
                f"{server.url}/classify", content=bodies[body], headers=raw, timeout=60
            ).status_code

        with ThreadPoolExecutor(8) as pool:
            counts = Counter(pool.map(ask, asked))
        metrics = server.metrics()
        for status, count in counts.items():
            name = f'exitramp_requests_total{{code="{status}",route="/classify"}}'
            assert metrics[name] - ready.get(name, 0) == count, status
        assert metrics['exitramp_request_seconds_count{route="/classify"}'] == len(asked)
        images = sum(value for name, value in metrics.items() if name.startswith("exitramp_images_total"))
        assert images == counts[200]
        assert metrics["exitramp_in_flight"] == 0 and metrics["exitramp_cancelled_total"] == 0


def test_who_has_no_key_is_refused_whatever_was_sent(
    settings: dict[str, str], bodies: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.write_text(json.dumps(KEYS))
    with serving({**settings, "HTTP_WORKERS": "2", "KEYS_FILE": str(keys)}) as server:
        for body in ("image", "broken"):
            for key in ({}, {"X-API-Key": "other"}):
                answer = server.client.post("/classify", content=bodies[body], headers=key)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["www-authenticate"]
        assert server.metrics()["exitramp_decode_seconds_count"] == 0
        with_key = {"X-API-Key": "key"}
        assert server.client.post("/classify", content=bodies["image"], headers=with_key).status_code == 200
        assert server.client.post("/classify", content=bodies["broken"], headers=with_key).status_code == 422
        assert server.metrics()['exitramp_rejected_total{reason="unauthorized"}'] == 4


def test_a_full_engine_refuses_and_soon_before_anything_is_decoded(settings: dict[str, str]) -> None:
    limits = {"HTTP_WORKERS": "2", "MAX_IN_FLIGHT": "2", "MAX_BATCH": "1", "EXECUTOR": "torch"}
    body = noise(32)
    with serving({**settings, **limits}) as server:

        def ask(_: int) -> httpx.Response:
            return httpx.post(f"{server.url}/classify", content=body, timeout=60)

        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(ask, range(400)))
        counts = Counter(answer.status_code for answer in answers)
        assert set(counts) == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.json()["code"] == "overloaded" and int(refused.headers["retry-after"]) >= 1
        metrics = server.metrics()
        assert metrics['exitramp_rejected_total{reason="overloaded"}'] == counts[503]
        assert metrics["exitramp_decode_seconds_count"] < 400


def test_idle_processes_take_no_time(several: Server) -> None:
    """But for a word of the supervisor's now and then, which may be the last thousandth of a tick."""
    several.client.get("/readyz")
    time.sleep(0.5)
    processes = [several.process.pid, *workers(several.process.pid), *workers(several.process.pid, "engine")]
    assert len(processes) == 4
    before = [cpu_ticks(pid) for pid in processes]
    time.sleep(2)
    taken = [cpu_ticks(pid) - ticks for pid, ticks in zip(processes, before, strict=True)]
    assert sum(taken) <= 1


def test_what_cannot_be_served_ends_all_processes_with_one_clear_line(settings: dict[str, str]) -> None:
    process = start({**settings, "HTTP_WORKERS": "2", "MODELS": '["none"]'})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("exitramp: ") and "none" in errors.splitlines()[-1]
    assert not workers(process.pid) and not workers(process.pid, "engine")


def test_a_taken_port_is_one_clear_line(several: Server, settings: dict[str, str]) -> None:
    port = several.url.rpartition(":")[2]
    process = start({**settings, "HTTP_WORKERS": "2", "PORT": port})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and errors.startswith(f"exitramp: cannot listen on 127.0.0.1:{port}")
    assert isinstance(process, subprocess.Popen)
