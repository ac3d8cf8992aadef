"""What the Locust users take for a right answer, and every way in which one can be wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_service import MODEL, answer, prediction

from loadtest.answers import Ask, error_faults, faults, notation, read_stream, value_of

ASK = Ask(2, None, [MODEL], mean=2_000, limit=3_000, deadline_ms=50, request_id="me")


def right() -> tuple[dict[str, Any], dict[str, str]]:
    """An answer to ``ASK``, and its headers."""
    body = answer(prediction("dog", 1), prediction("cat", 2))
    body["budget"] = {"mean": 2_000, "limit": 3_000, "deadline_ms": 50}
    return body, {"X-Request-Id": "me", "X-FLOPs": "4000", "Server-Timing": "total;dur=1"}


def test_a_right_answer_has_no_fault() -> None:
    assert faults(ASK, *right()) == []


def first(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["predictions"][0]
    return found


LIES: list[tuple[str, Callable[[dict[str, Any], dict[str, str]], object]]] = [
    ("lacks 'policy'", lambda body, _: body.pop("policy")),
    ("timing_ms lacks 'queue'", lambda body, _: body["timing_ms"].pop("queue")),
    ("flops has the wrong type", lambda body, _: body.update(flops=4000.0)),
    ("degraded has the wrong type", lambda body, _: first(body).update(degraded=1)),
    ("exit has the wrong type", lambda body, _: first(body).update(exit=True)),
    ("large answered, but the default model", lambda body, _: body.update(model="large")),
    ("1 predictions for 2 images", lambda body, _: body["predictions"].pop()),
    ("is an error for a sound image", lambda body, _: first(body).update(error={"code": "x"})),
    ("exit is 3 of 2", lambda body, _: first(body).update(exit=3)),
    ("exit is 1 of 7, not of 2", lambda body, _: first(body).update(exits=7)),
    ("less than the cheapest exit costs", lambda body, _: first(body).update(flops=999)),
    ("over the limit of 3000", lambda body, _: first(body).update(flops=3001)),
    ("flops is 3999, but the predictions sum to 4000", lambda body, _: body.update(flops=3999)),
    ("over 2 times the budget of 2000", lambda body, _: first(body).update(flops=1001)),
    ("is no class of the model", lambda body, _: first(body)["top"][0].update(label="yak")),
    ("is no class of the model", lambda body, _: first(body)["top"][0].update(index=2)),
    ("top has 2 entries of 3 classes", lambda body, _: first(body)["top"].pop()),
    ("top[] lacks 'index'", lambda body, _: first(body)["top"][1].pop("index")),
    ("is not the first of its own top list", lambda body, _: first(body).update(label="cat")),
    ("does not descend", lambda body, _: first(body)["top"].reverse()),
    ("outside [0, 1]", lambda body, _: first(body)["top"][2].update(probability=-0.1)),
    ("sums to more than one", lambda body, _: first(body)["top"][1].update(probability=0.6)),
    ("budget.mean is 1999", lambda body, _: body["budget"].update(mean=1999)),
    ("budget.limit is None", lambda body, _: body["budget"].update(limit=None)),
    ("budget.deadline_ms is None", lambda body, _: body["budget"].pop("deadline_ms")),
    ("X-FLOPs is 1 instead of 4000", lambda _, headers: headers.update({"X-FLOPs": "1"})),
    ("X-Request-Id is None instead of me", lambda _, headers: headers.pop("X-Request-Id")),
    ("Server-Timing is missing", lambda _, headers: headers.pop("Server-Timing")),
]


@pytest.mark.parametrize(("said", "lie"), LIES, ids=[said for said, _ in LIES])
def test_every_lie_is_found(said: str, lie: Callable[[dict[str, Any], dict[str, str]], object]) -> None:
    body, headers = right()
    lie(body, headers)
    assert any(said in fault for fault in faults(ASK, body, headers))


def test_a_lone_image_has_its_exit_in_a_header_and_may_exceed_a_mean() -> None:
    body = answer(prediction("dog", 2)) | {"budget": {"mean": 2_000, "limit": None, "deadline_ms": None}}
    headers = {"X-Request-Id": "me", "X-FLOPs": "3000", "Server-Timing": "total;dur=1", "X-Exit": "2"}
    ask = replace(ASK, images=1, limit=None, deadline_ms=None)
    assert faults(ask, body, headers) == []
    assert faults(ask, body, headers | {"X-Exit": "1"}) == ["X-Exit is 1 instead of 2"]
    assert faults(replace(ask, streamed=True), body, {"X-Request-Id": "me"}) == []


def problem(status: int, code: str, detail: str = "why") -> dict[str, Any]:
    told = {"type": f"urn:{code}", "title": code, "detail": detail, "request_id": "me"}
    return {**told, "status": status, "code": code}


def test_only_errors_that_were_to_be_expected_are_none() -> None:
    small, patient = replace(ASK, limit=500), replace(ASK, deadline_ms=None)
    later = {"Retry-After": "1"}
    assert error_faults(ASK, 504, problem(504, "deadline_exceeded"), {}) == []
    assert error_faults(patient, 504, problem(504, "deadline_exceeded"), {}) != []
    assert error_faults(ASK, 503, problem(503, "overloaded"), later) == []
    assert error_faults(ASK, 503, problem(503, "overloaded"), {}) == ["overloaded with Retry-After None"]
    assert error_faults(ASK, 503, problem(503, "draining"), later) == ["status 503 draining: why"]
    assert error_faults(ASK, 429, problem(429, "quota_exhausted"), later) == []
    assert error_faults(small, 422, problem(422, "budget_too_small", "costs 1000 FLOPs"), {}) == []
    assert "1000 FLOPs: why" in error_faults(small, 422, problem(422, "budget_too_small"), {})[0]
    assert error_faults(ASK, 422, problem(422, "budget_too_small", "costs 1000 FLOPs"), {}) != []
    assert error_faults(ASK, 500, problem(500, "internal_error"), {}) == ["status 500 internal_error: why"]
    nameless = {name: value for name, value in problem(503, "overloaded").items() if name != "code"}
    assert error_faults(ASK, 503, nameless, later) == ["status 503: problem lacks 'code'"]
    assert "the body says 504" in error_faults(ASK, 503, problem(504, "overloaded"), later)[0]


def events(*named: tuple[str, dict[str, Any]]) -> str:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in named)


def test_a_stream_is_predictions_of_rising_exits_and_the_rest_of_the_answer() -> None:
    rest = {name: value for name, value in answer(prediction("dog", 2)).items() if name != "predictions"}
    one, two = ("prediction", prediction("dog", 1)), ("prediction", prediction("dog", 2))
    read = read_stream(events(one, two, ("done", rest)))
    assert read["predictions"] == [two[1]] and read["passed"] == [one[1], two[1]] and read["flops"] == 3000
    for broken in ((one, two), (("done", rest),), (two, one, ("done", rest)), (one, ("error", {}))):
        with pytest.raises(ValueError, match=r"^(events|exits) "):
            read_stream(events(*broken))


def test_a_number_is_written_in_many_ways_and_always_means_the_same() -> None:
    random.seed(0)
    for flops in (25_000_000, 16_100_000, 1_234_567, 390_000_000, 999, 40_000_000_000):
        ways = {notation(flops) for _ in range(60)}
        assert {round(value_of(way)) for way in ways} == {flops}
        assert len(ways) >= 3 or flops == 1_234_567
