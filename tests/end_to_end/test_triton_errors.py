"""What Triton's client is told when a request cannot be answered."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from conftest import random_images
from live import Server
from open_inference import exits_of, files, parameters, pixels, requested
from PIL import Image as PillowImage
from tritonclient.utils import InferenceServerException

pytest_plugins = ["triton_fixtures"]


def refusal(status: int, ask: Callable[[], Any]) -> str:
    """What the client is told."""
    with pytest.raises(InferenceServerException) as caught:
        ask()
    assert caught.value.status() == str(status), caught.value
    assert "decoding the response" not in caught.value.message()
    message: str = caught.value.message()
    return message


@pytest.mark.parametrize("asked", [{"timeout": 1}, {"parameters": {"deadline_ms": 0.001}}])
def test_a_deadline_that_cannot_be_met_is_an_error(
    client: triton.InferenceServerClient, asked: dict[str, Any]
) -> None:
    told = refusal(504, lambda: client.infer("small", [pixels(random_images(2))], **asked))
    assert "image[0]" in told and "deadline" in told
    assert (
        parameters(client.infer("small", [pixels(random_images(1))], timeout=10**7))["deadline_ms"] == 10**4
    )


def test_errors_say_what_is_wrong(server: Server, client: triton.InferenceServerClient) -> None:
    images = random_images(2)
    good = pixels(images)
    cheapest = exits_of(server)[0]

    def told(status: int, given: triton.InferInput = good, name: str = "small", **more: Any) -> str:
        return refusal(status, lambda: client.infer(name, [given], **more))

    assert "'other'" in told(404, name="other")
    assert "'small@7'" in told(404, model_version="7")
    assert str(cheapest) in told(422, parameters={"flop_budget": cheapest - 1})
    assert "contradict" in told(400, parameters={"flop_limit": "2M"}, headers={"X-FLOP-Limit": "3M"})
    assert "X-FLOP-Budget" in told(400, headers={"X-FLOP-Budget": "much"})
    assert "flop_budget" in told(400, parameters={"flop_budget": "much"})
    assert "X-Model" in told(400, headers={"X-Model": "other"})
    assert "logits" in told(400, outputs=requested("logits"))
    assert "'gzip'" in told(415, request_compression_algorithm="gzip")
    assert "'deflate'" in told(415, request_compression_algorithm="deflate")
    assert "1000000" in told(
        413,
        triton.InferInput("image", [1, 2000000], "UINT8").set_data_from_numpy(
            np.zeros((1, 2000000), np.uint8)
        ),
    )
    assert "[B, 32, 32, 3]" in told(400, pixels(np.zeros((1, 3, 16, 16), np.uint8)))
    assert "64 images" in told(400, pixels(np.zeros((65, 3, 32, 32), np.uint8)))
    wrong = triton.InferInput("image", [1, 32, 32, 3], "FP32")
    assert "UINT8" in told(400, wrong.set_data_from_numpy(np.zeros((1, 32, 32, 3), np.float32)))
    assert "named image" in told(
        400, triton.InferInput("INPUT__0", [1], "BYTES").set_data_from_numpy(np.array([b"x"], np.object_))
    )
    for path in ("get_trace_settings", "get_log_settings", "get_system_shared_memory_status"):
        assert "nothing is at /v2/" in refusal(404, getattr(client, path))
    assert client.infer("small", [good]).as_numpy("exit").shape == (2, 1)


def test_a_file_that_is_no_image_fails_with_its_request(
    client: triton.InferenceServerClient, png: Callable[[int], bytes]
) -> None:
    def told(status: int, *contents: bytes) -> str:
        return refusal(status, lambda: client.infer("small", [files(*contents)]))

    huge = io.BytesIO()
    PillowImage.new("L", (5100, 100)).save(huge, "PNG")
    for status, content in ((415, b"rubbish"), (415, b""), (422, png(0)[:-200]), (413, huge.getvalue())):
        alone = told(status, content)
        assert told(400, png(0), png(1), content, png(2)) == f"image[2]: {alone}"


def test_every_error_below_v2_has_the_protocols_form(server: Server) -> None:
    answers = [
        server.client.get("/v2/nowhere"),
        server.client.get("/v2/models/other"),
        server.client.get("/v2/models/small/infer"),
        server.client.post("/v2/models/small/infer", content=b"{"),
        server.client.post("/v2/models/small/infer", content=bytes(1000001)),
        server.client.post("/v2/models/small/infer", content=iter([bytes(1000001)])),
        server.client.post("/v2/repository/models/small/load"),
        *(
            server.client.post(
                "/v2/models/small/infer", content=b"{}", headers=[("Inference-Header-Content-Length", value)]
            )
            for value in ("-1", "", "1.5", "3", "٣".encode(), "9" * 30)
        ),
    ]
    assert [answer.status_code for answer in answers[:7]] == [404, 404, 405, 400, 413, 413, 401]
    assert [answer.status_code for answer in answers[7:]] == [400] * 6
    assert answers[2].headers["allow"] == "POST"
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {"error", "code"} and answer.headers["x-request-id"]
