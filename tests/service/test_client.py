"""The Python client against made-up servers: what it sends and how it reads answers; both clients, always."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import Asynchronous, Blocking, Handler, Time
from said import ANSWER, FAILED, MODEL, PREDICTION

from service import client as api
from service import schemas
from service.headers import parse_headers

Ask = Blocking | Asynchronous


@pytest.fixture(params=[Blocking, Asynchronous])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param()


def saying(body: Any, status: int = 200, **headers: str) -> Handler:
    return lambda request: httpx.Response(status, json=body, headers=headers)


def sent_by(ask: Ask, *arguments: Any, **more: Any) -> httpx.Request:
    """The request that a call makes."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=ANSWER)

    ask.call(handler, *arguments, **more)
    (request,) = requests
    return request


def test_the_server_reads_the_headers_as_they_were_meant(ask: Ask) -> None:
    said: dict[str, Any] = {
        "budget": 25e6,
        "limit": "40M",
        "deadline_ms": 50,
        "model": "cifar10",
        "request_id": "a1",
    }
    request = sent_by(ask, "classify", b"image", api_key="secret", **said)
    headers = parse_headers([(name.lower(), value) for name, value in request.headers.raw])
    assert (headers.budget.mean, headers.budget.limit, headers.budget.deadline_ms) == (25e6, 40e6, 50)
    assert (headers.model, headers.request_id, headers.api_key) == ("cifar10", "a1", "secret")
    assert headers.content_type == ""


def test_what_is_not_said_is_not_sent(ask: Ask) -> None:
    request = sent_by(ask, "classify", b"image", budget=None, model=None)
    assert not [name for name in request.headers if name.startswith("x-")]


def test_an_image_is_bytes_a_path_or_a_file(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"image")
    for image in (b"image", path, str(path), io.BytesIO(b"image")):
        request = sent_by(ask, "classify", image)
        assert (request.method, request.url.path, request.content) == ("POST", "/classify", b"image")
    with pytest.raises(FileNotFoundError):
        sent_by(ask, "classify", tmp_path / "none.png")
    for nonsense in (io.StringIO("text"), 7, None):
        with pytest.raises(TypeError, match="an image is bytes"):
            sent_by(ask, "classify", nonsense)


def test_several_images_are_parts_of_one_name(ask: Ask) -> None:
    request = sent_by(ask, "classify_many", (bytes([65 + i]) * 9 for i in range(3)), budget="25M")
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert request.content.count(b'name="image"; filename="') == 3
    assert request.content.index(b"AAAAAAAAA") < request.content.index(b"BBBBBBBBB")
    assert request.headers["x-flop-budget"] == "25M"


@pytest.mark.parametrize("images", [[], [b"image"] * 65])
def test_too_many_images_or_none_are_not_sent(ask: Ask, images: list[bytes]) -> None:
    with pytest.raises(ValueError, match=f"{len(images)} images; a request holds 1 to 64"):
        sent_by(ask, "classify_many", images)


def test_one_image_given_as_many_is_an_error(ask: Ask) -> None:
    for image in (b"image", "image.png", Path("image.png")):
        with pytest.raises(TypeError, match="there is classify"):
            sent_by(ask, "classify_many", image)


def test_arguments_that_cannot_be_sent_are_named_and_keys_not_shown(ask: Ask) -> None:
    with pytest.raises(TypeError, match="unknown arguments budgett"):
        sent_by(ask, "classify", b"image", budgett=1)
    with pytest.raises(ValueError, match="model is not printable"):
        sent_by(ask, "classify", b"image", model="é")
    with pytest.raises(ValueError, match="api_key is not printable") as caught:
        sent_by(ask, "classify", b"image", api_key="secret\n")
    assert "secret" not in str(caught.value)


def test_an_answer_holds_what_the_service_said(ask: Ask) -> None:
    answer = ask.call(saying(ANSWER, **{"X-Request-Id": "a1"}), "classify", b"image")
    assert (answer.model, answer.version, answer.policy, answer.task) == (
        "cifar10-fusion",
        1,
        "abc",
        "cifar10",
    )
    assert answer.budget == api.Budget(mean=25e6, limit=None, deadline_ms=None)
    assert answer.timing == api.Timing(decode_ms=0.2, queue_ms=1.0, compute_ms=3.0, total_ms=4.6)
    assert (answer.flops, answer.request_id) == (33576704, "a1")
    prediction = answer.prediction
    assert answer.predictions == (prediction,)
    assert (prediction.label, prediction.index, prediction.probability) == ("cat", 3, 0.91)
    assert (prediction.exit, prediction.exits, prediction.flops) == (3, 7, 33576704)
    assert prediction.top[1] == api.TopClass("dog", 5, 0.0) and prediction.degraded is False


def test_a_failed_image_stands_in_its_place(ask: Ask) -> None:
    body = ANSWER | {"predictions": [PREDICTION, FAILED]}
    answer = ask.call(saying(body), "classify_many", [b"one", b"two"])
    good, bad = answer.predictions
    assert isinstance(good, api.Prediction) and bad == api.FailedImage("undecodable_image", "truncated")
    with pytest.raises(ValueError, match="about 2 images"):
        _ = answer.prediction


def test_models_and_explanations_hold_what_the_service_said(ask: Ask) -> None:
    (model,) = ask.call(saying({"models": [MODEL]}), "models")
    assert model == ask.call(saying(MODEL), "model", "cifar10-fusion")
    assert model.exits == (api.ModelExit(1, 15, 16, 0.9, None),) and model.curve == (
        api.CurvePoint(15.0, 0.9),
    )
    assert model.classes == ("cat", "dog") and model.provenance == {"seed": 0}
    headers = {"content-type": "image/png", "X-Exit": "3", "X-Class-Index": "8", "X-FLOPs": "1500"}
    drawn = ask.call(lambda _: httpx.Response(200, content=b"png", headers=headers), "explain", b"image")
    assert drawn == api.Explanation(b"png", exit=3, index=8, flops=1500)
    with pytest.raises(api.UnexpectedAnswer, match="X-Exit"):
        ask.call(lambda _: httpx.Response(200, headers=headers | {"X-Exit": ""}), "explain", b"image")


def test_a_models_name_is_one_segment_of_the_path(ask: Ask) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/models/a%2Fb%3Fc@3"
        return httpx.Response(200, json=MODEL)

    ask.call(handler, "model", "a/b?c@3")


def test_readiness_is_an_answer_and_is_not_waited_for(ask: Ask) -> None:
    assert ask.call(saying({"status": "ready"}), "ready") is True
    time = Time()
    assert ask.call(saying({}, 503, **{"Retry-After": "2"}), "ready", retries=3, time=time) is False
    assert time.pauses == []
    with pytest.raises(api.Refused):
        ask.call(saying({}, 404), "ready")


def extended(value: Any) -> Any:
    """``value`` as a newer server might send it."""
    if isinstance(value, dict):
        return {**{name: extended(inner) for name, inner in value.items()}, "news": {"of": [1, None]}}
    return [extended(inner) for inner in value] if isinstance(value, list) else value


def test_members_of_a_newer_server_do_no_harm(ask: Ask) -> None:
    body = ANSWER | {"predictions": [PREDICTION, FAILED]}
    answers = [ask.call(saying(said), "classify", b"image") for said in (body, extended(body))]
    assert answers[0] == answers[1]
    newer = extended({"models": [MODEL]})
    assert ask.call(saying(newer), "models")[0].exits == ask.call(saying(MODEL), "model", "a").exits


@pytest.mark.parametrize(
    ("member", "value", "complaint"),
    [
        ("version", "1", "the answer.version is '1', not a whole number"),
        ("version", True, "the answer.version is True, not a whole number"),
        ("flops", None, "the answer.flops is None"),
        ("predictions", [{}], r"the answer.predictions\[0\].label is None, not a string"),
        ("predictions", ["cat"], r"the answer.predictions\[0\] is 'cat', not an object"),
        ("timing_ms", {}, "the answer.timing_ms.decode is None, not a number"),
    ],
)
def test_an_answer_that_cannot_be_read_says_where(ask: Ask, member: str, value: Any, complaint: str) -> None:
    with pytest.raises(api.UnexpectedAnswer, match=complaint):
        ask.call(saying(ANSWER | {member: value}), "classify", b"image")


def test_a_page_in_place_of_an_answer_is_unexpected(ask: Ask) -> None:
    with pytest.raises(api.UnexpectedAnswer, match="the answer is not JSON"):
        ask.call(lambda _: httpx.Response(200, html="<p>Log in</p>"), "classify", b"image")


def test_everything_that_is_read_is_in_the_servers_schema() -> None:
    pairs = [
        (api.Prediction, schemas.PredictionBody),
        (api.TopClass, schemas.TopClass),
        (api.FailedImage, schemas.ImageError),
        (api.Budget, schemas.BudgetBody),
        (api.Model, schemas.ModelBody),
        (api.ModelExit, schemas.ExitBody),
        (api.CurvePoint, schemas.CurvePoint),
    ]
    for ours, theirs in pairs:
        assert {field.name for field in fields(ours)} <= set(theirs.model_fields), ours
    names = {field.name.removesuffix("_ms") for field in fields(api.Timing)}
    assert names <= set(schemas.Timing.model_fields)
    assert {field.name for field in fields(api.Answer)} - {"timing", "request_id"} <= set(
        schemas.ClassifyBody.model_fields
    )


def test_importing_the_client_loads_nothing_of_the_server() -> None:
    heavy = "{'torch', 'numpy', 'fastapi', 'pydantic', 'openvino', 'model_store', 'service.errors'}"
    code = f"import sys, service.client; print({heavy} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
