"""One request for each row of the contract's error table answers exactly so; so do their neighbours."""

from __future__ import annotations

import hashlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import SmallStore
from live import Server, serving
from PIL import Image as PillowImage

from service.app import create_app
from service.settings import Settings


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving(settings) as running:
        yield running


def is_problem(answer: httpx.Response, status: int, code: str, *told: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["title"] and body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    for word in told:
        assert word in body["detail"], body["detail"]
    assert "Traceback" not in answer.text and "/" not in body["detail"].replace("/nowhere", "")


@pytest.mark.parametrize("header", ["X-FLOP-Budget", "X-FLOP-Limit", "X-Deadline-Ms"])
@pytest.mark.parametrize(
    "value", ["", "-1", "0", "nan", "inf", "1e999", "25 M", "25m", "0x10", "1_0", "+", "M"]
)
def test_an_unusable_number_is_an_invalid_header(
    server: Server, png: Callable[[int], bytes], header: str, value: str
) -> None:
    answer = server.client.post("/classify", content=png(0), headers={header: value})
    is_problem(answer, 400, "invalid_header", header)


@pytest.mark.parametrize(
    "header", ["X-FLOP-Budget", "X-FLOP-Limit", "X-Deadline-Ms", "X-Model", "X-Request-Id"]
)
def test_a_header_given_twice_is_invalid_even_if_both_agree(
    server: Server, png: Callable[[int], bytes], header: str
) -> None:
    answer = server.client.post("/classify", content=png(0), headers=[(header, "25M"), (header, "25M")])
    is_problem(answer, 400, "invalid_header", header, "twice")


def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(
    server: Server, png: Callable[[int], bytes]
) -> None:
    for name in ("nonesuch", "small@9", "SMALL"):
        answer = server.client.post("/classify", content=png(0), headers={"X-Model": name})
        is_problem(answer, 404, "unknown_model", name, "small@1")


def test_too_many_bytes_or_too_long_a_shape_is_too_large(server: Server) -> None:
    answer = server.client.post("/classify", content=b"\x89PNG\r\n\x1a\n" + bytes(10 * 2**20))
    is_problem(answer, 413, "too_large", str(10 * 2**20))
    file = io.BytesIO()
    PillowImage.new("L", (5100, 100)).save(file, "PNG")
    is_problem(server.client.post("/classify", content=file.getvalue()), 413, "too_large", "50")


@pytest.mark.parametrize("body", [b"", b"hello", b"%PDF-1.7", b"<svg xmlns='x'/>", b"II*\0" + bytes(100)])
def test_what_is_no_image_by_its_first_bytes_is_unsupported(server: Server, body: bytes) -> None:
    answer = server.client.post("/classify", content=body, headers={"Content-Type": "image/png"})
    is_problem(answer, 415, "unsupported_media_type")


def test_an_empty_image_is_unsupported_and_said_to_be_empty(
    server: Server, png: Callable[[int], bytes]
) -> None:
    is_problem(server.client.post("/classify"), 415, "unsupported_media_type", "empty")
    parts = server.client.post("/classify", files=[("image", b""), ("image", png(0))]).json()["predictions"]
    assert parts[0]["error"]["code"] == "unsupported_media_type" and "empty" in parts[0]["error"]["detail"]
    assert parts[1]["label"]


def test_a_deadline_is_explained_in_milliseconds_and_as_all_budgets_as_large_as_you_like(
    server: Server, png: Callable[[int], bytes]
) -> None:
    answer = server.client.post("/classify", content=png(0), headers={"X-Deadline-Ms": "0"})
    is_problem(answer, 400, "invalid_header", "X-Deadline-Ms", "milliseconds")
    for path in ("/classify", "/classify/stream", "/explain"):
        for number in ("1e9", "1e17", "1e300", "1.7e308"):
            asked = {"X-Deadline-Ms": number, "X-FLOP-Limit": number, "X-FLOP-Budget": number}
            assert server.client.post(path, content=png(0), headers=asked).status_code == 200, number
    budget = server.client.post("/classify", files=[("image", png(0))] * 9, headers=asked).json()["budget"]
    assert budget == {"mean": 1.7e308, "limit": 1.7e308, "deadline_ms": 1.7e308}


def test_compressed_bodies_are_unsupported(server: Server, png: Callable[[int], bytes]) -> None:
    answer = server.client.post("/classify", content=png(0), headers={"Content-Encoding": "gzip"})
    is_problem(answer, 415, "unsupported_media_type", "gzip")


def test_a_broken_image_is_undecodable(server: Server, png: Callable[[int], bytes]) -> None:
    is_problem(server.client.post("/classify", content=png(0)[:-200]), 422, "undecodable_image")


@pytest.mark.parametrize("header", ["X-FLOP-Budget", "X-FLOP-Limit"])
def test_less_than_the_cheapest_exit_is_too_small_and_its_flops_are_named(
    server: Server, png: Callable[[int], bytes], header: str
) -> None:
    cheapest = server.client.get("/models/small").json()["exits"][0]["flops"]
    answer = server.client.post("/classify", content=png(0), headers={header: str(cheapest - 1)})
    is_problem(answer, 422, "budget_too_small", str(cheapest))
    assert server.client.post("/classify", content=png(0), headers={header: str(cheapest)}).status_code == 200


def test_a_deadline_that_not_even_the_first_exit_meets_is_exceeded(
    server: Server, png: Callable[[int], bytes]
) -> None:
    answer = server.client.post("/classify", content=png(0), headers={"X-Deadline-Ms": "0.001"})
    is_problem(answer, 504, "deadline_exceeded")
    assert "the deadline of 0.001 ms" in answer.json()["detail"]


def test_every_unanswered_request_is_problem_json(server: Server, png: Callable[[int], bytes]) -> None:
    is_problem(server.client.get("/nowhere"), 404, "not_found")
    is_problem(server.client.get("/classify"), 405, "method_not_allowed")
    is_problem(server.client.get("/models/nonesuch"), 404, "unknown_model")
    for files, told in (
        ([("picture", png(0))], "'picture' is not a file named image"),
        ([("image", png(0))] * 65, "more than 64 files; a request holds 1 to 64 images"),
    ):
        is_problem(server.client.post("/classify", files=files), 400, "invalid_request", told)
    with_field = server.client.post("/classify", files=[("image", png(0))], data={"budget": "25M"})
    is_problem(with_field, 400, "invalid_request", "a form field without a file", "files named image")
    broken = {"Content-Type": "multipart/form-data; boundary=X"}
    is_problem(
        server.client.post("/classify", content=b"--X\r\nrubbish", headers=broken), 400, "invalid_request"
    )


def test_with_keys_a_caller_needs_one_and_gets_what_its_quota_allows(
    small_store: SmallStore, tmp_path: Path, png: Callable[[int], bytes]
) -> None:
    keys = [
        {"name": "rich", "sha256": hashlib.sha256(b"rich-key").hexdigest()},
        {
            "name": "poor",
            "sha256": hashlib.sha256(b"poor-key").hexdigest(),
            "flops_per_second": 1_000_000,
            "burst_flops": 20_000_000,
        },
    ]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
    settings = {
        "MODEL_STORE": str(small_store.root),
        "MODELS": '["small"]',
        "EXECUTOR": "torch",
        "KEYS_FILE": str(tmp_path / "keys.json"),
    }
    with serving(settings) as server:
        is_problem(server.client.post("/classify", content=png(0)), 401, "unauthorized")
        wrong = {"X-API-Key": "wrong"}
        is_problem(server.client.post("/classify", content=png(0), headers=wrong), 401, "unauthorized")
        for _ in range(50):
            assert server.client.post(
                "/classify", content=png(0), headers={"X-API-Key": "rich-key"}
            ).is_success
        answers = [
            server.client.post("/classify", content=png(0), headers={"X-API-Key": "poor-key"})
            for _ in range(50)
        ]
        spent = sum(answer.json()["flops"] for answer in answers if answer.is_success)
        assert 0 < spent <= 25_000_000
        is_problem(answers[-1], 429, "quota_exhausted")
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_until_it_is_ready_the_server_says_so(small_store: SmallStore, png: Callable[[int], bytes]) -> None:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "openvino"}
    with serving(settings, wait=False) as server:
        answer = server.client.post("/classify", content=png(0))
        is_problem(answer, 503, "not_ready")
        assert int(answer.headers["retry-after"]) >= 1
        is_problem(server.client.get("/readyz"), 503, "not_ready")
        assert server.client.get("/livez").status_code == 200


def test_with_all_permits_taken_the_next_request_is_refused_at_once(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    settings = {
        "MODEL_STORE": str(small_store.root),
        "MODELS": '["small"]',
        "EXECUTOR": "torch",
        "MAX_IN_FLIGHT": "1",
    }
    with serving(settings) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n12345")
            while server.metrics()["exitramp_in_flight"] < 1:
                pass
            answer = server.client.post("/classify", content=png(0))
            is_problem(answer, 503, "overloaded", "1 permit")
            assert int(answer.headers["retry-after"]) >= 1
        while server.metrics()["exitramp_in_flight"] > 0:
            pass
        assert server.client.post("/classify", content=png(0)).status_code == 200
        assert server.metrics()['exitramp_rejected_total{reason="overloaded"}'] == 1


async def test_while_draining_new_requests_are_sent_elsewhere(png: Callable[[int], bytes]) -> None:
    app = create_app(Settings())
    app.state.service.draining = True
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.post("/classify", content=png(0))
        is_problem(answer, 503, "draining")
        assert int(answer.headers["retry-after"]) >= 1
        is_problem(await client.get("/readyz"), 503, "draining")
