"""Sessions of Triton's own HTTP clients, blocking and asyncio, with a running server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from conftest import CLASSES, random_images
from live import Server
from open_inference import exits_of, files, parameters, pixels, requested
from tritonclient.utils import InferenceServerException

pytest_plugins = ["triton_fixtures"]

OUTPUTS = ("probabilities", "label", "exit", "flops")


def test_server_and_model_are_healthy_and_described(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    for name, version in (("small", ""), ("small", "1"), ("small@1", ""), ("small@1", "1"), ("cifar10", "")):
        assert client.is_model_ready(name, version)
    for name, version in (("small", "2"), ("small@1", "2"), ("cifar10", "1"), ("other", ""), ("small", "x")):
        assert not client.is_model_ready(name, version)
    assert client.get_server_metadata() == {
        "name": "exitramp",
        "version": "0.1.0",
        "extensions": [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "parameters",
            "statistics",
        ],
    }
    described = client.get_model_metadata("small")
    assert described == client.get_model_metadata("small", "1") == client.get_model_metadata("small@1")
    assert (described["name"], described["versions"]) == ("small", ["1"])
    assert described["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
    shapes = {entry["name"]: (entry["datatype"], entry["shape"]) for entry in described["outputs"]}
    assert tuple(shapes) == OUTPUTS and shapes["probabilities"] == ("FP32", [-1, 10])
    task = client.get_model_metadata("cifar10")
    assert task == described | {"name": "cifar10", "versions": []}


def test_the_server_describes_itself_with_and_without_a_slash(server: Server) -> None:
    for path in ("/v2", "/v2/"):
        answer = server.client.get(path)
        assert (answer.status_code, answer.json()["name"]) == (200, "exitramp")


def test_the_configuration_is_what_is_served(server: Server, client: triton.InferenceServerClient) -> None:
    config, described = client.get_model_config("small"), client.get_model_metadata("small")
    assert config == client.get_model_config("small", "1")
    assert config["max_batch_size"] == 64
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 1000
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    (image,) = config["input"]
    assert (image["data_type"], image["dims"], image["format"]) == ("TYPE_UINT8", [32, 32, 3], "FORMAT_NHWC")
    for part in ("input", "output"):
        shapes = [[-1, *entry["dims"]] for entry in config[part]]
        assert shapes == [entry["shape"] for entry in described[part + "s"]]
    told = {name: entry["string_value"] for name, entry in config["parameters"].items()}
    assert json.loads(told["labels"]) == list(CLASSES)
    assert [entry["flops"] for entry in json.loads(told["exits"])] == exits_of(server)
    assert told["policy"] == server.client.get("/models/small").json()["policy"]


@pytest.mark.parametrize("count", [1, 5, 64])
def test_what_comes_out_does_not_depend_on_how_it_is_written(
    client: triton.InferenceServerClient, png: Callable[[int], bytes], count: int
) -> None:
    images = np.concatenate([random_images(1, seed) for seed in range(count)])
    encoded = [png(seed) for seed in range(count)]
    inputs = [
        pixels(images),
        pixels(images, planes=True),
        files(*encoded),
        files(*map(base64.b64encode, encoded), binary=False),
    ]
    if count < 64:  # a million bytes are the limit here, and JSON needs more
        inputs += [pixels(images, binary=False), pixels(images, binary=False, planes=True)]
    limit = {"flop_limit": "1G"}
    answers = [client.infer("small", [given], parameters=limit) for given in inputs]
    answers += [
        client.infer("small", [inputs[0]], parameters=limit, outputs=requested(*OUTPUTS, binary=binary))
        for binary in (True, False)
    ]
    first = answers[0]
    assert first.as_numpy("probabilities").shape == (count, 10)
    assert np.allclose(first.as_numpy("probabilities").sum(1), 1, atol=1e-5)
    for answer in answers:
        for name in OUTPUTS:
            assert np.array_equal(
                answer.as_numpy(name).astype(object), first.as_numpy(name).astype(object)
            ) or (
                name == "label"  # JSON has text where binary tensors have bytes
                and [str(text) for text in answer.as_numpy(name).ravel()]
                == [text.decode() for text in first.as_numpy(name).ravel()]
            )
    indices = first.as_numpy("probabilities").argmax(1)
    assert [text.decode() for text in first.as_numpy("label").ravel()] == [CLASSES[i] for i in indices]


def test_only_what_is_asked_for_comes_back_and_in_that_order(client: triton.InferenceServerClient) -> None:
    outputs = [*requested("flops", binary=False), *requested("label"), *requested("exit", binary=False)]
    answer = client.infer("small", [pixels(random_images(3))], outputs=outputs, request_id="17")
    body = answer.get_response()
    assert [entry["name"] for entry in body["outputs"]] == ["flops", "label", "exit"]
    assert ["data" in entry for entry in body["outputs"]] == [True, False, True]
    assert (body["id"], body["model_name"], body["model_version"]) == ("17", "small", "1")
    assert answer.as_numpy("probabilities") is None


def test_classification_is_value_index_and_label(client: triton.InferenceServerClient) -> None:
    images = random_images(4)
    plain = client.infer("small", [pixels(images)], headers={"X-FLOP-Limit": "1G"}).as_numpy("probabilities")
    for count, binary in ((1, True), (3, False), (5, True), (9, True), (10, False), (99, True)):
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=count)]
        answer = client.infer("small", [pixels(images)], outputs=outputs, headers={"X-FLOP-Limit": "1G"})
        texts = answer.as_numpy("probabilities")
        assert texts.shape == (4, min(count, 10)) and texts.dtype == np.object_
        for row, values in zip(texts, plain, strict=True):
            best = np.argsort(-values, kind="stable")[: len(row)]
            said = [text.decode() if isinstance(text, bytes) else str(text) for text in row]
            assert said == [f"{values[index]:.6f}:{index}:{CLASSES[index]}" for index in best]


@pytest.mark.parametrize("way", ["header", "parameter", "both"])
def test_a_limit_can_be_a_header_a_parameter_or_both(
    server: Server, client: triton.InferenceServerClient, way: str
) -> None:
    for exit_, flops in enumerate(exits_of(server), start=1):
        headers = None if way == "parameter" else {"X-FLOP-Limit": str(flops)}
        told = None if way == "header" else {"flop_limit": flops}
        answer = client.infer("small", [pixels(random_images(2))], headers=headers, parameters=told)
        assert answer.as_numpy("exit").tolist() == [[exit_]] * 2
        assert answer.as_numpy("flops").tolist() == [[flops]] * 2
        assert (parameters(answer)["flops"], parameters(answer)["flop_limit"]) == (2 * flops, flops)


def test_the_images_of_a_request_never_exceed_the_sum_of_their_budgets(
    server: Server, client: triton.InferenceServerClient
) -> None:
    cheapest, *_, deepest = exits_of(server)
    images = random_images(64, seed=4)
    for budget in np.linspace(cheapest, deepest, 6).astype(int).tolist():
        answer = client.infer("small", [pixels(images)], parameters={"flop_budget": budget})
        spent = int(answer.as_numpy("flops").sum())
        assert 0.95 * 64 * budget <= spent <= 64 * budget
        assert (parameters(answer)["flops"], parameters(answer)["flop_budget"]) == (spent, budget)
        assert "exit" not in parameters(answer)


def test_a_single_image_says_where_it_left_and_what_it_cost(server: Server) -> None:
    body, json_bytes = triton.InferenceServerClient.generate_request_body([pixels(random_images(1))])
    answer = server.client.post(
        "/v2/models/small/infer", content=body, headers={"Inference-Header-Content-Length": str(json_bytes)}
    )
    told = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])["parameters"]
    policy = server.client.get("/models/small").json()["policy"]
    assert (told["policy"], told["degraded"]) == (policy, False)
    assert answer.headers["x-flops"] == str(told["flops"]) and answer.headers["x-exit"] == str(told["exit"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "compute;dur=" in answer.headers["server-timing"]


def test_a_raw_file_is_answered_as_by_classify(server: Server, png: Callable[[int], bytes]) -> None:
    raw = {"Inference-Header-Content-Length": "0"}
    answer = server.client.post("/v2/models/small/infer", content=png(0), headers=raw)
    alone = server.client.post("/classify", content=png(0)).json()["predictions"][0]
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["label"] == [alone["label"]] and outputs["exit"] == [alone["exit"]]
    assert server.client.post("/v2/models/small/infer", content=b"", headers=raw).status_code == 415


async def test_the_asyncio_client_is_served_as_well(server: Server) -> None:
    images = random_images(8)
    async with triton_aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("small") and not await client.is_model_ready("other")
        assert (await client.get_server_metadata())["name"] == "exitramp"
        assert (await client.get_model_metadata("small"))["versions"] == ["1"]
        assert (await client.get_model_config("small"))["max_batch_size"] == 64
        assert [entry["state"] for entry in await client.get_model_repository_index()] == ["READY"]
        before = (await client.get_inference_statistics("small"))["model_stats"][0]["inference_count"]
        outputs = [triton.InferRequestedOutput("probabilities", class_count=2), *requested("exit")]
        answer = await client.infer("small", [pixels(images)], outputs=outputs)
        assert answer.as_numpy("probabilities").shape == (8, 2)
        after = (await client.get_inference_statistics("small"))["model_stats"][0]["inference_count"]
        assert after == before + 8
        with pytest.raises(InferenceServerException) as caught:
            await client.infer("other", [pixels(images)])
        assert caught.value.status() == "404" and "'other'" in caught.value.message()


def test_the_clients_own_asynchronous_requests_share_batches(
    server: Server, client: triton.InferenceServerClient
) -> None:
    images = random_images(40, seed=8)
    with triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=8) as many:
        limit = {"flop_limit": "1G"}
        asked = [many.async_infer("small", [pixels(image[None])], parameters=limit) for image in images]
        answers = [request.get_result() for request in asked]
    alone = [client.infer("small", [pixels(image[None])], parameters=limit) for image in images]
    for one, other in zip(answers, alone, strict=True):
        assert one.as_numpy("label") == other.as_numpy("label")
        assert np.allclose(one.as_numpy("probabilities"), other.as_numpy("probabilities"), atol=1e-4)


def test_every_reference_in_the_documentation_resolves(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]
    names = {parameter["name"] for parameter in infer["parameters"]}
    assert names >= {"name", "X-FLOP-Budget", "X-FLOP-Limit", "X-Deadline-Ms", "X-API-Key"}

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
            node = list(node.values())
        if isinstance(node, list):
            for entry in node:
                yield from references(entry)

    for reference in set(references(document)):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_the_readmes_example_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## Open Inference Protocol")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    assert "cifar10" in code and "127.0.0.1:8000" in code
    code = code.replace("127.0.0.1:8000", server.url.removeprefix("http://"))
    code = code.replace("tests/images", str(Path(__file__).parents[1] / "images"))
    exec(compile(code, "README.md", "exec"), {})
    assert re.search(r"\d\.\d{6}:\d+:\w+", capsys.readouterr().out)
