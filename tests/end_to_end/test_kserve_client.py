"""Sessions of the KServe SDK's REST client with a running server."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import numpy as np
import pytest
from conftest import CLASSES, SmallStore, random_images
from kserve import InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from live import Server, serving
from open_inference import settings_of


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    with serving(settings_of(small_store.root, "small")) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[InferenceRESTClient]:
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
        yield client


def request_of(images: np.ndarray, binary: bool, **more: object) -> InferRequest:
    """Images, uint8 (B, 3, H, W), channels last."""
    sent = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    tensor = InferInput("image", list(sent.shape), "UINT8")
    tensor.set_data_from_numpy(sent, binary_data=binary)
    return InferRequest("small", [tensor], **more)


def tensors(answer: InferResponse) -> dict[str, np.ndarray]:
    return {output.name: output.as_numpy() for output in answer.outputs}


async def test_health(server: Server, client: InferenceRESTClient) -> None:
    assert await client.is_server_live(server.url) is True
    assert await client.is_server_ready(server.url) is True
    for name in ("small", "small@1", "cifar10"):
        assert await client.is_model_ready(server.url, name) is True
    assert await client.is_model_ready(server.url, "other") is False


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
async def test_infer_with_tensors_in_the_json_and_behind_it(
    server: Server, client: InferenceRESTClient, binary: bool, binary_output: bool
) -> None:
    told = {"binary_data_output": binary_output, "flop_limit": "1G"}
    request = request_of(random_images(3), binary, request_id="abc", parameters=told)
    headers: dict[str, str] = {}
    answer = await client.infer(server.url, request, model_name="small", response_headers=headers)
    found = tensors(answer)
    assert (answer.id, answer.model_name) == ("abc", "small")
    assert found["probabilities"].shape == (3, 10) and found["probabilities"].dtype == np.float32
    assert np.allclose(found["probabilities"].sum(1), 1, atol=1e-5)
    labels = [CLASSES[index] for index in found["probabilities"].argmax(1)]
    assert [str(label) for label in found["label"].ravel()] == labels
    assert answer.parameters["flops"] == found["flops"].sum() == int(headers["x-flops"])
    deepest = server.client.get("/models/small").json()["exits"][-1]
    assert found["exit"].ravel().tolist() == [deepest["exit"]] * 3


async def test_plain_dictionaries_and_budget_headers(server: Server, client: InferenceRESTClient) -> None:
    cheapest = server.client.get("/models/small").json()["exits"][0]
    image = random_images(1).transpose(0, 2, 3, 1)
    data = {
        "inputs": [{"name": "image", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": image.tolist()}]
    }
    headers = {"X-FLOP-Limit": str(cheapest["flops"])}
    answer = await client.infer(server.url, data, model_name="cifar10", headers=headers)
    assert answer.parameters["exit"] == 1 and answer.parameters["flops"] == cheapest["flops"]


async def test_image_files_and_requested_outputs(
    server: Server, client: InferenceRESTClient, png: Callable[[int], bytes]
) -> None:
    limit = {"flop_limit": "1G"}
    pixels = np.concatenate([random_images(1, seed) for seed in range(3)])
    wanted = await client.infer(server.url, request_of(pixels, True, parameters=limit), model_name="small")
    for binary in (True, False):
        contents = [png(seed) if binary else base64.b64encode(png(seed)) for seed in range(3)]
        tensor = InferInput("image", [3], "BYTES")
        tensor.set_data_from_numpy(np.array(contents, dtype=np.object_), binary_data=binary)
        outputs = [
            RequestedOutput("probabilities", {"classification": 2, "binary_data": binary}),
            RequestedOutput("flops", {"binary_data": binary}),
        ]
        request = InferRequest("small", [tensor], parameters=limit, request_outputs=outputs)
        answer = await client.infer(server.url, request, model_name="small")
        found, expected = tensors(answer), tensors(wanted)
        assert list(found) == ["probabilities", "flops"]
        assert np.array_equal(found["flops"], expected["flops"])
        best = [text.split(":") for text in found["probabilities"][:, 0]]
        assert [int(index) for _, index, _ in best] == expected["probabilities"].argmax(1).tolist()


async def test_errors_are_told(server: Server, client: InferenceRESTClient) -> None:
    for name, request, status, told in (
        ("other", request_of(random_images(1), True), 404, "'other'"),
        ("small", request_of(random_images(1)[:, :, :8], False), 400, "[B, 32, 32, 3]"),
        ("small", request_of(random_images(1), True, parameters={"flop_limit": 1}), 422, "cheapest exit"),
    ):
        with pytest.raises(httpx.HTTPStatusError, match=str(status)) as caught:
            await client.infer(server.url, request, model_name=name)
        assert caught.value.response.status_code == status and told in str(caught.value)
