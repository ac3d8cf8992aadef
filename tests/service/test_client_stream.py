"""The Python client's streams: events cut anywhere, ends of all kinds, connections given back."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from asking import Asynchronous, Blocking, Handler, Pieces, Time
from hypothesis import given, settings
from hypothesis import strategies as st

from service import client as api
from service.client.events import Event, EventDecoder

Ask = Blocking | Asynchronous

DONE = {
    "model": "cifar10-fusion",
    "version": 1,
    "policy": "abc",
    "task": "cifar10",
    "budget": {"mean": 25000000, "limit": None, "deadline_ms": None},
    "flops": 64,
    "timing_ms": {"decode": 0.2, "queue": 1.1, "compute": 3.0, "total": 4.6},
}


@pytest.fixture(params=[Blocking, Asynchronous])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param()


def prediction(k: int, **more: Any) -> dict[str, Any]:
    top = {"label": "Käuzchen", "index": k, "probability": 0.5}
    return {
        **top,
        "top": [top],
        "exit": k,
        "exits": 3,
        "flops": 10 * k,
        "degraded": False,
        "elapsed_ms": 1.5 * k,
        **more,
    }


def event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


WHOLE = b"".join([*(event("prediction", prediction(k)) for k in (1, 2, 3)), event("done", DONE)])


def streaming(pieces: Iterable[bytes | Exception]) -> Handler:
    return with_body(Pieces(pieces))


def with_body(body: Pieces) -> Handler:
    headers = {"content-type": "text/event-stream; charset=utf-8", "X-Request-Id": "a1"}

    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path, request.content) == ("POST", "/classify/stream", b"image")
        assert request.headers["x-flop-budget"] == "25M"
        return httpx.Response(200, headers=headers, stream=body)

    return handler


def test_predictions_come_one_by_one_and_then_the_answer(ask: Ask) -> None:
    came = ask.stream(streaming([WHOLE]))
    assert came.error is None and came.answer is not None
    assert [said.exit for said in came.predictions] == [1, 2, 3]
    assert [said.elapsed_ms for said in came.predictions] == [1.5, 3.0, 4.5]
    assert all(isinstance(said, api.Prediction) and said.label == "Käuzchen" for said in came.predictions)
    assert came.answer.predictions == (came.predictions[-1],) and came.answer.prediction.exit == 3
    assert (came.answer.flops, came.answer.model, came.answer.request_id) == (64, "cifar10-fusion", "a1")
    assert came.answer.timing.total_ms == 4.6


def test_a_prediction_is_given_before_the_next_bytes_are_waited_for() -> None:
    body = Pieces([event("prediction", prediction(k)) for k in (1, 2, 3)])
    with (
        api.Client("http://test", transport=httpx.MockTransport(with_body(body))) as client,
        client.stream(b"image", budget="25M") as stream,
    ):
        assert body.given == 0  # not even asked
        assert next(stream).exit == 1 and body.given == 1
        assert next(stream).exit == 2 and body.given == 2


def test_an_event_may_be_cut_at_any_byte(ask: Ask) -> None:
    whole = ask.stream(streaming([WHOLE]))
    assert ask.stream(streaming(WHOLE[i : i + 1] for i in range(len(WHOLE)))) == whole
    for seed in range(30):
        cuts = sorted(random.Random(seed).sample(range(len(WHOLE) + 1), 5))
        pieces = [WHOLE[a:b] for a, b in zip([0, *cuts], [*cuts, len(WHOLE)], strict=True)]
        assert ask.stream(streaming(pieces)) == whole, cuts


LINES = ["event: prediction", "event:done", "data: ä\u2028b", "data:", "data", "data:  b", ": ping", "x", ""]


@settings(deadline=None)
@given(st.lists(st.sampled_from(LINES)), st.sampled_from(["\n", "\r", "\r\n"]), st.data())
def test_line_ends_and_cuts_do_not_change_the_events(lines: list[str], end: str, data: st.DataObject) -> None:
    text = "".join(line + end for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=9)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    decoder = EventDecoder()
    assert [said for piece in pieces for said in decoder.feed(piece)] == expected(lines)


def expected(lines: list[str]) -> list[Event]:
    """The events of whole lines, in the plainest way."""
    events, name, data = [], "message", []
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].removeprefix(" ")
        elif line.startswith("data"):
            data.append(line[5:].removeprefix(" "))
        elif not line:
            if data:
                events.append(Event(name, "\n".join(data)))
            name, data = "message", []
    return events


def test_news_of_a_newer_server_is_passed_over(ask: Ask) -> None:
    pieces = [
        b": keep-alive\n\n",
        event("progress", [1]),
        b"data: nothing\n\n",
        event("prediction", prediction(1, news=1)),
        event("done", DONE | {"news": {}}),
        event("after", 1),
    ]
    came = ask.stream(streaming(pieces))
    assert came.error is None and len(came.predictions) == 1 and came.answer is not None


def test_what_came_before_an_error_is_given_and_then_the_error(ask: Ask) -> None:
    problem = {
        "status": 504,
        "code": "deadline_exceeded",
        "detail": "too late",
        "type": "urn:x",
        "title": "T",
    }
    body = Pieces([event("prediction", prediction(1)) + event("error", problem)])
    came = ask.stream(with_body(body))
    assert [said.exit for said in came.predictions] == [1] and came.answer is None and body.closed
    assert type(came.error) is api.DeadlineExceeded
    assert (came.error.status, came.error.detail, came.error.request_id) == (504, "too late", "a1")


@pytest.mark.parametrize(
    ("last", "told"),
    [(b"", "ended before"), (httpx.ReadError("reset"), "reset"), (httpx.ReadTimeout(""), "ReadTimeout")],
)
def test_a_stream_that_breaks_off_is_no_answer(ask: Ask, last: bytes | Exception, told: str) -> None:
    body = Pieces([event("prediction", prediction(1)), b"event: done\ndata: {", last])
    came = ask.stream(with_body(body))
    assert len(came.predictions) == 1 and came.answer is None and body.closed
    assert isinstance(came.error, api.NoAnswer) and told in str(came.error)


def test_an_event_that_cannot_be_read_says_where(ask: Ask) -> None:
    came = ask.stream(streaming([event("prediction", {"label": "cat"})]))
    assert isinstance(came.error, api.UnexpectedAnswer) and "the prediction.index is None" in str(came.error)
    came = ask.stream(streaming([event("error", "sorry")]))
    assert isinstance(came.error, api.UnexpectedAnswer) and "not an object" in str(came.error)


def test_a_success_that_is_no_stream_is_unexpected(ask: Ask) -> None:
    came = ask.stream(lambda _: httpx.Response(200, json={}))
    assert isinstance(came.error, api.UnexpectedAnswer) and "application/json" in str(came.error)


def test_a_refusal_before_the_first_byte_is_retried_like_any_other(ask: Ask) -> None:
    answers = [httpx.Response(503, headers={"Retry-After": "2"}), streaming([WHOLE])]

    def handler(request: httpx.Request) -> httpx.Response:
        answer = answers.pop(0)
        return answer if isinstance(answer, httpx.Response) else answer(request)

    time = Time()
    came = ask.stream(handler, retries=1, time=time)
    assert len(came.predictions) == 3 and time.pauses == [2]
    came = ask.stream(lambda _: httpx.Response(503, headers={"Retry-After": "2"}))
    assert isinstance(came.error, api.RetryLater)


def test_a_stream_that_is_left_early_is_closed(ask: Ask) -> None:
    body = Pieces(
        [event("prediction", prediction(1)), event("prediction", prediction(2)), event("done", DONE)]
    )
    came = ask.stream(with_body(body), take=1)
    assert len(came.predictions) == 1 and came.answer is None
    assert body.closed and body.given == 1
