"""What surrounds every request: its id, its count, and an answer even to a bug of ours."""

from __future__ import annotations

import json

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.metrics import Metrics
from service.observe import Observed


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("a secret of ours")


async def broken_halfway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError


async def sound(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask(observed: Observed, sent: list[Message], request_id: bytes = b"") -> None:
    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"x-request-id", request_id)] if request_id else []
    await observed({"type": "http", "path": "/x", "headers": headers}, receive, send)


def count(metrics: Metrics, code: str) -> float:
    value: float = metrics.requests.labels("unmatched", code)._value.get()  # type: ignore[attr-defined]
    return value


async def test_a_bug_is_an_answer_that_is_counted_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    metrics, sent = Metrics(), list[Message]()
    await ask(Observed(broken, metrics), sent, b"mine")
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"x-request-id"]) == (500, b"mine")
    body = json.loads(sent[1]["body"])
    assert (body["code"], body["request_id"]) == ("internal_error", "mine") and "secret" not in str(body)
    assert (count(metrics, "500"), count(metrics, "499")) == (1, 0)
    assert "a secret of ours" in caplog.text


async def test_what_is_refused_before_any_route_is_counted_where_it_was_sent() -> None:
    metrics = Metrics()
    await ask(Observed(sound, metrics, paths=["/x"]), [])
    assert metrics.requests.labels("/x", "200")._value.get() == 1  # type: ignore[attr-defined]


async def test_an_answer_that_breaks_off_is_left_to_the_server() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError):
        await ask(Observed(broken_halfway, metrics), [])
    assert count(metrics, "200") == 1


async def test_every_request_has_an_id_of_its_own() -> None:
    observed, ids = Observed(sound, Metrics()), set()
    for _ in range(1_000):
        sent: list[Message] = []
        await ask(observed, sent)
        ids.add(dict(sent[0]["headers"])[b"x-request-id"])
    assert len(ids) == 1_000 and {len(one) for one in ids} == {16}
