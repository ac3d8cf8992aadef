"""The service as its users see it: answers, sums, metrics, lifecycle. Real processes, both executors."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import CLASSES, SmallStore, random_images, small_manifest, small_net
from live import Server, serving, start
from PIL import Image as PillowImage

from model_store.store import Store
from service.schemas import ClassifyBody


@pytest.fixture(scope="module", params=["torch", "openvino"])
def server(request: pytest.FixtureRequest, small_store: SmallStore) -> Iterator[Server]:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": request.param}
    with serving(settings) as running:
        yield running


def encoded(pixels: np.ndarray, container: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(pixels.transpose(1, 2, 0)).convert(mode).save(file, container)
    return file.getvalue()


def test_an_answer_has_the_shape_of_the_contract(server: Server, png: Callable[[int], bytes]) -> None:
    headers = {"X-FLOP-Budget": "2M", "X-Request-Id": "my-id"}
    answer = server.client.post("/classify", content=png(1), headers=headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert ClassifyBody.model_validate(body).model_dump(mode="json") == body
    assert (body["model"], body["version"], body["task"]) == ("small", 1, "cifar10")
    assert body["budget"] == {"mean": 2000000, "limit": None, "deadline_ms": None}
    (prediction,) = body["predictions"]
    assert prediction["label"] == CLASSES[prediction["index"]] == prediction["top"][0]["label"]
    assert len(prediction["top"]) == 5 and prediction["exits"] == 4 and not prediction["degraded"]
    probabilities = [entry["probability"] for entry in prediction["top"]]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.001
    assert answer.headers["x-flops"] == str(body["flops"]) == str(prediction["flops"])
    assert answer.headers["x-exit"] == str(prediction["exit"])
    assert answer.headers["x-request-id"] == "my-id"
    assert "total;dur=" in answer.headers["server-timing"]


def test_curls_default_content_type_is_no_obstacle(server: Server, png: Callable[[int], bytes]) -> None:
    for kind in ("application/x-www-form-urlencoded", "image/jpeg", "application/octet-stream", ""):
        answer = server.client.post(
            "/classify", content=png(1), headers={"Content-Type": kind} if kind else {}
        )
        assert answer.status_code == 200, kind


@pytest.mark.parametrize("container", ["PNG", "BMP", "WEBP", "GIF", "JPEG"])
def test_every_format_and_size_is_taken(server: Server, container: str) -> None:
    for scale in (1, 3, 20):
        pixels = random_images(1)[0].repeat(scale, 1).repeat(scale, 2)
        assert server.client.post("/classify", content=encoded(pixels, container)).status_code == 200


def test_limits_hold_for_every_image_and_take_the_deepest_exit(server: Server) -> None:
    exits = server.client.get("/models/small").json()["exits"]
    for spec in exits:
        for image in random_images(10, seed=spec["exit"]):
            limit = {"X-FLOP-Limit": str(spec["flops"])}
            body = server.client.post("/classify", content=encoded(image), headers=limit).json()
            assert (body["predictions"][0]["exit"], body["flops"]) == (spec["exit"], spec["flops"])


def test_images_of_one_request_come_back_in_order_and_a_bad_one_fails_alone(server: Server) -> None:
    images = [encoded(image) for image in random_images(5, seed=9)]
    parts = [("image", image) for image in (*images[:2], b"rubbish", *images[2:])]
    limit = {"X-FLOP-Limit": "1G"}
    together = server.client.post("/classify", files=parts, headers=limit).json()
    assert together["predictions"][2]["error"]["code"] == "unsupported_media_type"
    good = [entry for entry in together["predictions"] if "error" not in entry]
    deep = [server.client.post("/classify", content=image, headers=limit).json() for image in images]
    assert [entry["label"] for entry in good] == [body["predictions"][0]["label"] for body in deep]
    assert together["flops"] == sum(entry["flops"] for entry in good)


def test_a_request_of_many_images_never_exceeds_its_sum(server: Server) -> None:
    exits = server.client.get("/models/small").json()["exits"]
    parts = [("image", encoded(image)) for image in random_images(32, seed=4)]
    for budget in np.linspace(exits[0]["flops"], exits[-1]["flops"], 6).astype(int):
        headers = {"X-FLOP-Budget": str(budget)}
        body = server.client.post("/classify", files=parts, headers=headers).json()
        assert 0.95 * 32 * budget <= body["flops"] <= 32 * budget


def test_concurrent_answers_are_those_of_quiet_times(server: Server) -> None:
    images = [encoded(image) for image in random_images(100, seed=5)]
    first, second, *_ = [spec["flops"] for spec in server.client.get("/models/small").json()["exits"]]
    # Budgets that no image can exceed: where the mean has to be held, the ledger looks at the images before.
    headers = [{"X-FLOP-Limit": "1G"}, {"X-FLOP-Budget": "1G"}, {"X-FLOP-Limit": str((first + second) // 2)}]

    def ask(number: int) -> tuple[int, int, int]:
        answer = server.client.post("/classify", content=images[number], headers=headers[number % 3])
        entry = answer.json()["predictions"][0]
        return entry["index"], entry["exit"], entry["flops"]

    quiet = [ask(number) for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(100))) == quiet


def test_prometheus_counts_what_the_client_counted(small_store: SmallStore) -> None:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    settings["RECHECK_SHARE"] = "0"  # which executes what nobody is charged
    with serving(settings) as server:
        exits, flops, codes = Counter(), 0, Counter()
        for number, image in enumerate(random_images(60, seed=6)):
            body = encoded(image) if number % 6 else b"rubbish"
            answer = server.client.post("/classify", content=body, headers={"X-FLOP-Budget": "2M"})
            codes[answer.status_code] += 1
            if answer.is_success:
                exits[answer.json()["predictions"][0]["exit"]] += 1
                flops += answer.json()["flops"]
        seen = server.metrics()
        for code, count in codes.items():
            assert seen[f'exitramp_requests_total{{code="{code}",route="/classify"}}'] == count
        for exit_, count in exits.items():
            assert seen[f'exitramp_images_total{{exit="{exit_}",model="small"}}'] == count
        assert seen['exitramp_flops_total{kind="charged",model="small"}'] == flops
        assert seen['exitramp_flops_total{kind="executed",model="small"}'] == flops
        assert seen['exitramp_budget_flops_total{model="small"}'] == 50 * 2e6
        server.client.post("/classify", content=encoded(random_images(1)[0]), headers={"X-FLOP-Budget": "1T"})
        most = sum(exit_["flops"] for exit_ in server.client.get("/models/small").json()["exits"])
        allowed = server.metrics()['exitramp_budget_flops_total{model="small"}'] - 50 * 2e6
        assert 2e6 < allowed < most  # one budget that nobody can spend must not hide what others overspend
        assert seen['exitramp_image_flops_count{model="small"}'] == 50
        assert seen["exitramp_in_flight"] == 0
        assert not [
            value for name, value in seen.items() if name.startswith("exitramp_queue_depth") and value
        ]


def test_models_are_described(server: Server) -> None:
    (model,) = server.client.get("/models").json()["models"]
    for name in ("small", "small@1", "cifar10"):
        assert server.client.get(f"/models/{name}").json() == model
    assert model["classes"] == list(CLASSES) and len(model["exits"]) == 4 and model["curve"]
    answer = server.client.post(
        "/classify", content=encoded(random_images(1)[0]), headers={"X-Model": "cifar10"}
    )
    assert answer.json()["policy"] == model["policy"]


def test_sigterm_answers_what_is_in_flight_and_exits_cleanly(small_store: SmallStore) -> None:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving(settings) as server:
        images = [encoded(image) for image in random_images(40, seed=7)]
        codes: list[int] = []
        cut = threading.Event()

        def ask(image: bytes) -> None:
            with httpx.Client(base_url=server.url, timeout=30) as client:
                for _ in range(50):
                    try:
                        codes.append(client.post("/classify", content=image).status_code)
                    except httpx.TransportError:
                        return  # the server no longer accepts, or closed the connection while it was idle
                    if len(codes) > 100:
                        cut.set()

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, image) for image in images]
            assert cut.wait(60)
            assert server.stop() == 0
            for task in asked:
                task.result()
        assert set(codes) <= {200, 503} and codes.count(200) > 100


@pytest.mark.parametrize("broken", ["truncated", "missing", "no version"])
def test_with_a_broken_artifact_the_server_ends_with_one_clear_line(tmp_path: Path, broken: str) -> None:
    manifest, weights = small_manifest(small_net())
    folder = Store(tmp_path).publish(manifest, weights)
    if broken == "truncated":
        (folder / "model.safetensors").write_bytes(weights[:-1])
    wanted = {"truncated": "small", "missing": "other", "no version": "small@7"}[broken]
    process = start({"MODEL_STORE": str(tmp_path), "MODELS": json.dumps([wanted]), "EXECUTOR": "torch"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if not line.startswith("{")]
    assert line.startswith("exitramp: ") and ("SHA-256" in line or "no artifact" in line)
    assert '"event":"ready"' not in errors


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"PORT": "high"}, "EXITRAMP_PORT"), ({"KEYS_FILE": "/nowhere.json"}, "nowhere.json")],
)
def test_a_setting_that_cannot_be_used_is_one_clear_line(settings: dict[str, str], told: str) -> None:
    process = start(settings)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and len(errors.splitlines()) == 1 and told in errors
