"""The Open Inference Protocol beside the rest: same answers, same counts, models that come and go."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from conftest import SmallStore, random_images
from live import Server, serving
from open_inference import client_of, files, parameters, pixels, requested, settings_of, states, statistics_of
from PIL import Image as PillowImage
from tritonclient.utils import InferenceServerException

from service.app import create_app
from service.settings import Settings

OUTPUTS = ("probabilities", "label", "exit", "flops")


@pytest.fixture(scope="module", params=["torch", "openvino", "embedded"])
def server(request: pytest.FixtureRequest, small_store: SmallStore) -> Iterator[Server]:
    small = settings_of(small_store.root, "small", EXECUTOR=request.param)
    with serving({"RECHECK_SHARE": "0"} if request.param == "embedded" else small) as running:
        yield running


def encoded(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def same(answer: triton.InferResult, predictions: list[dict[str, Any]]) -> bool:
    """Whether tensors say what ``/classify`` says: label, exit, FLOPs and every probability it gives."""
    probabilities, label, exit_, flops = (answer.as_numpy(name) for name in OUTPUTS)
    texts = [text.decode() if isinstance(text, bytes) else str(text) for text in label.ravel()]
    return all(
        (texts[i], exit_[i, 0], flops[i, 0]) == (told["label"], told["exit"], told["flops"])
        and all(probabilities[i, top["index"]] == np.float32(top["probability"]) for top in told["top"])
        for i, told in enumerate(predictions)
    )


def test_on_200_images_binary_json_and_files_agree_with_classify(server: Server) -> None:
    described = server.client.get("/models/cifar10").json()
    name, exits = described["name"], [spec["flops"] for spec in described["exits"]]
    # Nothing that depends on the images before: limits, and a budget that holds whatever they cost.
    asked = [{"flop_budget": "1G"}, *({"flop_limit": flops} for flops in exits)]
    with client_of(server) as client:
        for number, image in enumerate(random_images(200, seed=11)):
            ((member, value),) = (told := asked[number % len(asked)]).items()
            header = {"flop_budget": "X-FLOP-Budget", "flop_limit": "X-FLOP-Limit"}[member]
            file = encoded(image)
            body = server.client.post("/classify", content=file, headers={header: str(value)}).json()
            for given, binary in (
                (pixels(image[None]), True),
                (pixels(image[None], binary=False), False),
                (files(file), True),
            ):
                answer = client.infer(
                    name, [given], outputs=requested(*OUTPUTS, binary=binary), parameters=told
                )
                assert same(answer, body["predictions"]), (number, told)
                assert parameters(answer)["flops"] == body["flops"]


def test_a_batch_under_a_mean_budget_agrees_with_a_multipart_request(server: Server) -> None:
    described = server.client.get("/models/cifar10").json()
    images = random_images(16, seed=12)
    cheapest, deepest = described["exits"][0]["flops"], described["exits"][-1]["flops"]
    parts = [("image", encoded(image)) for image in images]
    with client_of(server) as client:
        for budget in np.linspace(cheapest, deepest, 5).astype(int).tolist():
            headers = {"X-FLOP-Budget": str(budget)}
            body = server.client.post("/classify", files=parts, headers=headers).json()
            answer = client.infer(described["name"], [pixels(images)], parameters={"flop_budget": budget})
            assert same(answer, body["predictions"]) and parameters(answer)["flops"] == body["flops"]


def summed(metrics: Mapping[str, float], name: str) -> float:
    return sum(value for full, value in metrics.items() if full.partition("{")[0] == name)


def test_statistics_add_up_over_all_routes(small_store: SmallStore) -> None:
    images = random_images(12, seed=5)
    with serving(settings_of(small_store.root, "small")) as server, client_of(server) as client:
        empty = statistics_of(client)
        assert (empty["inference_count"], empty["execution_count"], empty["last_inference"]) == (0, 0, 0)
        assert empty["batch_stats"] == [] and empty["inference_stats"]["success"] == {"count": 0, "ns": 0}
        budget = {"X-FLOP-Budget": "1.8M"}
        for image in images:
            assert server.client.post("/classify", content=encoded(image), headers=budget).is_success
        parts = [("image", encoded(image)) for image in images] + [("image", b"rubbish")]
        assert server.client.post("/classify", files=parts, headers=budget).is_success
        assert server.client.post("/classify/stream", content=encoded(images[0])).is_success
        assert server.client.post("/explain", content=encoded(images[0])).is_success
        client.infer("small", [pixels(images)], parameters={"flop_budget": "1.8M"})
        client.infer("cifar10", [files(*map(encoded, images[:3]))])
        for given, told in ((pixels(images[:2]), {"deadline_ms": 0.001}), (files(b"rubbish"), {})):
            with pytest.raises(InferenceServerException):
                client.infer("small", [given], parameters=told)
        statistics, metrics = statistics_of(client, "small"), server.metrics()
        assert statistics == statistics_of(client, "small", "1") == statistics_of(client, "cifar10")
        assert (statistics["name"], statistics["version"]) == ("small", "1")
        assert statistics["inference_count"] == 12 + 12 + 1 + 1 + 12 + 3
        assert statistics["inference_count"] == summed(metrics, "exitramp_images_total")
        inference = statistics["inference_stats"]
        assert (
            inference["fail"]["count"] == 2 and inference["fail"]["ns"] > 0
        )  # not the rubbish: never queued
        parts_of = [inference[part] for part in ("queue", "compute_input", "compute_infer", "compute_output")]
        for part in (inference["success"], *parts_of):
            assert part["count"] == statistics["inference_count"] and part["ns"] > 0
        assert inference["success"]["ns"] == sum(part["ns"] for part in parts_of)
        batches = statistics["batch_stats"]
        for batch in batches:
            assert len({batch[part]["count"] for part in batch if part != "batch_size"}) == 1
        launches = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in batches}
        assert statistics["execution_count"] == sum(launches.values())
        assert statistics["execution_count"] == summed(metrics, "exitramp_batch_size_count")
        in_launches = sum(size * count for size, count in launches.items())
        assert in_launches == summed(metrics, "exitramp_batch_size_sum") >= statistics["inference_count"]


def test_keys_and_quotas_hold_here_as_well(
    small_store: SmallStore, tmp_path: Path, png: Callable[[int], bytes]
) -> None:
    poor = {"name": "poor", "flops_per_second": 1_000_000, "burst_flops": 20_000_000}
    keys = {"keys": [{**poor, "sha256": hashlib.sha256(b"poor-key").hexdigest()}]}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    settings = settings_of(small_store.root, "small", KEYS_FILE=str(tmp_path / "keys.json"))
    with serving(settings) as server, client_of(server) as client:
        for headers in ({}, {"X-API-Key": "wrong"}):
            with pytest.raises(InferenceServerException) as caught:
                client.infer("small", [files(png(0))], headers=headers)
            assert caught.value.status() == "401"
        assert client.is_model_ready("small") and states(client), "looking is free"
        answer = client.infer("small", [pixels(random_images(10))], headers={"X-API-Key": "poor-key"})
        assert 0 < parameters(answer)["flops"] < 20_000_000
        with pytest.raises(InferenceServerException) as caught:
            client.infer("small", [pixels(random_images(10))], headers={"X-API-Key": "poor-key"})
        assert caught.value.status() == "429" and "FLOPs" in caught.value.message()


def test_until_it_is_ready_the_server_says_so(small_store: SmallStore) -> None:
    settings = settings_of(small_store.root, "small", EXECUTOR="openvino")
    with serving(settings, wait=False) as server, client_of(server) as client:
        assert client.is_server_live() and not client.is_server_ready() and not client.is_model_ready("small")
        answer = server.client.post("/v2/models/small/infer", content=b"{}")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert int(answer.headers["retry-after"]) >= 1


async def test_while_draining_new_requests_are_sent_elsewhere() -> None:
    app = create_app(Settings())
    app.state.service.draining = True
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        for answer in (
            await client.post("/v2/models/cifar10/infer", content=b"{}"),
            await client.get("/v2/health/ready"),
            await client.get("/v2/models/cifar10"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")
            assert "error" in answer.json() and int(answer.headers["retry-after"]) >= 1
        assert (await client.get("/v2/health/live")).json() == {"live": True}
