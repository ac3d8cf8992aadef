"""Two models of two tasks in one server: who answers, how it is counted, when it is ready."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import CLASSES, small_manifest, small_net
from live import Server, serving, start

from model_store.store import Store

HUNDRED = tuple(f"thing-{number}" for number in range(100))

NAMES = {
    None: "small@1",
    "cifar10": "small@1",
    "small": "small@1",
    "small@1": "small@1",
    "cifar100": "hundred@2",
    "hundred": "hundred@2",
    "hundred@2": "hundred@2",
}
"""X-Model and who answers it."""


def publish_two(root: Path) -> Path:
    """``small`` for CIFAR-10 and two versions of ``hundred`` for CIFAR-100; the folder of the latest."""
    store = Store(root)
    store.publish(*small_manifest(small_net()))
    for version in (1, 2):
        made = small_manifest(small_net(version, len(HUNDRED)), "hundred", version, "cifar100", HUNDRED)
        folder = store.publish(*made)
    return folder


def settings_of(root: Path, executor: str = "torch") -> dict[str, str]:
    return {"MODEL_STORE": str(root), "MODELS": '["small", "hundred"]', "EXECUTOR": executor}


@pytest.fixture(scope="module", params=["torch", "openvino"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("two")
    publish_two(root)
    with serving({**settings_of(root, request.param), "RECHECK_SHARE": "0"}) as running:
        yield running


def asking_for(name: str | None) -> dict[str, str]:
    return {} if name is None else {"X-Model": name}


def answer_of(server: Server, image: bytes, name: str | None, **more: str) -> dict[str, Any]:
    answer = server.client.post("/classify", content=image, headers=asking_for(name) | more)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(("name", "key"), NAMES.items())
def test_a_task_a_name_or_a_version_chooses_who_answers_and_without_one_the_first(
    server: Server, png: Callable[[int], bytes], name: str | None, key: str
) -> None:
    body = answer_of(server, png(1), name)
    task, labels = ("cifar10", CLASSES) if key == "small@1" else ("cifar100", HUNDRED)
    assert (f"{body['model']}@{body['version']}", body["task"]) == (key, task)
    (prediction,) = body["predictions"]
    assert all(entry["label"] == labels[entry["index"]] for entry in prediction["top"])
    if name is not None:
        described = server.client.get(f"/models/{name}").json()
        assert (described["name"], described["version"]) == (body["model"], body["version"])
        assert described["policy"] == body["policy"] and described["classes"] == list(labels)


@pytest.mark.parametrize("name", ["hundred@1", "hundred@3", "small@2", "cifar", "cifar100@2", "Hundred"])
def test_what_is_not_loaded_is_unknown_and_what_is_loaded_is_named(
    server: Server, png: Callable[[int], bytes], name: str
) -> None:
    for answer in (
        server.client.post("/classify", content=png(0), headers={"X-Model": name}),
        server.client.get(f"/models/{name}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model"), answer.text
        for known in (name, *filter(None, NAMES)):
            assert known in answer.json()["detail"]


def test_both_models_are_listed_in_the_order_of_the_settings(server: Server) -> None:
    listed = server.client.get("/models").json()["models"]
    shown = [(model["name"], model["version"], model["task"], len(model["classes"])) for model in listed]
    assert shown == [("small", 1, "cifar10", 10), ("hundred", 2, "cifar100", 100)]
    infos = [name for name in server.metrics() if name.startswith("exitramp_model_info")]
    assert len(infos) == 2
    for model in listed:
        (info,) = [name for name in infos if f'model="{model["name"]}"' in name]
        for label in ("device", "policy", "task", "version"):
            assert f'{label}="{model[label]}"' in info


def test_a_budget_is_held_against_the_exits_of_the_model_that_was_asked_for(
    server: Server, png: Callable[[int], bytes]
) -> None:
    cheapest = {
        task: server.client.get(f"/models/{task}").json()["exits"][0]["flops"]
        for task in ("cifar10", "cifar100")
    }
    assert cheapest["cifar10"] < cheapest["cifar100"], "100 classes cost more than 10"
    limit = str(cheapest["cifar10"])
    for task, status in (("cifar10", 200), ("cifar100", 422)):
        headers = {"X-Model": task, "X-FLOP-Limit": limit}
        answer = server.client.post("/classify", content=png(0), headers=headers)
        assert answer.status_code == status, answer.text
    assert answer.json()["code"] == "budget_too_small"
    assert str(cheapest["cifar100"]) in answer.json()["detail"]


def test_concurrent_requests_for_both_get_the_answers_of_quiet_times(
    server: Server, png: Callable[[int], bytes]
) -> None:
    images = [png(number) for number in range(60)]
    asked = list(NAMES)

    def ask(number: int) -> tuple[str, int, str]:
        # A limit, because the made-up means of these policies let accounts step in.
        body = answer_of(server, images[number], asked[number % len(asked)], **{"X-FLOP-Limit": "1G"})
        return body["model"], body["version"], body["predictions"][0]["label"]

    quiet = [ask(number) for number in range(60)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(60))) == quiet


def test_each_model_is_counted_under_its_own_name(server: Server, png: Callable[[int], bytes]) -> None:
    before = server.metrics()
    exits: Counter[tuple[str, int]] = Counter()
    images: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    for number in range(42):
        body = answer_of(server, png(number), list(NAMES)[number % len(NAMES)])
        exits[body["model"], body["predictions"][0]["exit"]] += 1
        images[body["model"]] += 1
        flops[body["model"]] += body["flops"]
    after = server.metrics()

    def counted(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert images == {"small": 24, "hundred": 18}
    for (model, exit_), count in exits.items():
        assert counted(f'exitramp_images_total{{exit="{exit_}",model="{model}"}}') == count
    for model in images:
        assert counted(f'exitramp_flops_total{{kind="charged",model="{model}"}}') == flops[model]
        assert counted(f'exitramp_flops_total{{kind="executed",model="{model}"}}') == flops[model]
        assert counted(f'exitramp_image_flops_count{{model="{model}"}}') == images[model]
        assert counted(f'exitramp_queue_seconds_count{{model="{model}"}}') == images[model]


def test_the_server_is_not_ready_before_the_second_model_is(
    tmp_path: Path, png: Callable[[int], bytes]
) -> None:
    """The second model's weights are a pipe, so that its loading waits for this test."""
    weights_file = publish_two(tmp_path) / "model.safetensors"
    weights = weights_file.read_bytes()
    weights_file.unlink()
    os.mkfifo(weights_file)
    with serving(settings_of(tmp_path), wait=False) as server:
        loaded = server.event()
        assert (loaded["event"], loaded["model"]) == ("model_loaded", "small@1")
        answers = [server.client.get(path) for path in ("/readyz", "/models", "/models/small")]
        answers += [server.client.post("/classify", content=png(0), headers=asking_for("small"))]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "not_ready")}
        weights_file.write_bytes(weights)  # returns once the server has opened the other end
        events = [server.event() for _ in range(2)]
        assert [event["event"] for event in events] == ["model_loaded", "ready"]
        assert events[1]["models"] == ["small@1", "hundred@2"]
        assert server.client.get("/readyz").status_code == 200
        assert answer_of(server, png(0), "cifar100")["model"] == "hundred"


def test_with_a_broken_second_model_the_server_never_gets_ready(tmp_path: Path) -> None:
    (publish_two(tmp_path) / "model.safetensors").write_bytes(b"rubbish")
    process = start(settings_of(tmp_path))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and '"event":"ready"' not in errors
    (line,) = [line for line in errors.splitlines() if not line.startswith("{")]
    assert line.startswith("exitramp: ") and "hundred" in line and "SHA-256" in line


def test_both_embedded_models_are_served_by_default(png: Callable[[int], bytes]) -> None:
    with serving({}) as server:
        classes = {
            model["name"]: len(model["classes"]) for model in server.client.get("/models").json()["models"]
        }
        assert classes == {"cifar10-fusion": 10, "cifar100-fusion": 100}
        for name, model in (
            (None, "cifar10-fusion"),
            ("cifar10", "cifar10-fusion"),
            ("cifar100", "cifar100-fusion"),
        ):
            assert answer_of(server, png(0), name)["model"] == model
