"""The Python client when things go wrong: errors of the service, of proxies, of the network; and retries."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from asking import Asynchronous, Blocking, Handler, Pieces, Time

from service import client as api
from service import errors
from service.errors import ServiceError
from service.problems import problem

Ask = Blocking | Asynchronous


@pytest.fixture(params=[Blocking, Asynchronous])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param()


def leaves() -> list[ServiceError]:
    """One error of each kind that the server has."""
    special: dict[type[ServiceError], tuple[Any, ...]] = {
        errors.InternalError: (),
        errors.MethodNotAllowed: ("detail", ["GET"]),
    }
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and "code" in vars(kind)]
    return [
        kind(*special.get(kind, ("detail", 7) if issubclass(kind, errors.RetryLater) else ("detail",)))
        for kind in kinds
        if issubclass(kind, ServiceError)
    ]


def answered_with(error: ServiceError) -> Handler:
    response = problem(error, "a1")
    return lambda _: httpx.Response(
        response.status_code, headers=dict(response.headers), content=response.body
    )


EXPECTED = {
    "unauthorized": api.Unauthorized,
    "unknown_model": api.UnknownModel,
    "too_large": api.UnusableImage,
    "unsupported_media_type": api.UnusableImage,
    "undecodable_image": api.UnusableImage,
    "budget_too_small": api.BudgetTooSmall,
    "quota_exhausted": api.RetryLater,
    "overloaded": api.RetryLater,
    "not_ready": api.RetryLater,
    "draining": api.RetryLater,
    "deadline_exceeded": api.DeadlineExceeded,
}


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.code)
def test_every_error_of_the_service_is_told_as_it_is(ask: Ask, error: ServiceError) -> None:
    with pytest.raises(api.Refused) as caught:
        ask.call(answered_with(error), "classify", b"image")
    refused = caught.value
    assert type(refused) is EXPECTED.get(error.code, api.Refused)
    assert (refused.status, refused.code, refused.detail) == (error.status, error.code, error.detail)
    assert refused.request_id == "a1"
    assert refused.retry_after_s == (7 if isinstance(error, errors.RetryLater) else None)
    assert str(refused) == f"{error.status} {error.code}: {error.detail}"
    again = pickle.loads(pickle.dumps(refused))  # noqa: S301 - our own
    assert type(again) is type(refused) and vars(again) == vars(refused)


FOREIGN: list[tuple[httpx.Response, type[api.Refused], str, str]] = [
    (httpx.Response(502, html="<p>Bad</p>"), api.Refused, "http_502", "502 Bad Gateway"),
    (
        httpx.Response(504, text="up\n stream"),
        api.Refused,
        "http_504",
        "Timeout: up stream",
    ),
    (httpx.Response(500, text=""), api.Refused, "http_500", "500 Internal Server Error"),
    (httpx.Response(429, json={"message": "slow"}), api.RetryLater, "http_429", '{"message":"slow"}'),
    (httpx.Response(413, html="<p>"), api.UnusableImage, "http_413", "413 Request Entity Too Large"),
    (httpx.Response(302, headers={"location": "/login"}), api.Refused, "http_302", "302 Found"),
    (
        httpx.Response(503, headers={"content-type": "application/problem+json"}, text="{"),
        api.RetryLater,
        "http_503",
        "503 Service Unavailable: {",
    ),
    (
        httpx.Response(
            403, headers={"content-type": "application/problem+json"}, text='{"title": "No", "code": 7}'
        ),
        api.Refused,
        "http_403",
        "No",
    ),
]


@pytest.mark.parametrize(("response", "kind", "code", "told"), FOREIGN, ids=[case[2] for case in FOREIGN])
def test_an_error_of_somebody_else_is_told_by_its_status(
    response: httpx.Response, kind: type[api.Refused], code: str, told: str
) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)

    for ask in (Blocking(), Asynchronous()):
        with pytest.raises(api.Refused) as caught:
            ask.call(handler, "classify", b"image")
        assert type(caught.value) is kind and caught.value.code == code
        assert caught.value.detail.endswith(told) and caught.value.request_id is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": " 120 "}, 120),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:27:30 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:29:30 GMT"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 -0000", "Date": "Wed, 21 Oct 2015 07:29:30 GMT"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(ask: Ask, headers: dict[str, str], seconds: float | None) -> None:
    with pytest.raises(api.RetryLater) as caught:
        ask.call(lambda _: httpx.Response(503, headers=headers), "models")
    assert caught.value.retry_after_s == seconds


class Busy:
    """Refuses the first ``times`` requests and answers the next."""

    def __init__(self, times: int, status: int = 503, **headers: str) -> None:
        self.asked: list[bytes] = []
        self._times, self._status = times, status
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.content)
        if len(self.asked) <= self._times:
            return httpx.Response(self._status, headers=self._headers)
        return httpx.Response(200, json={"models": []})


def test_nothing_is_sent_again_unless_asked_for(ask: Ask) -> None:
    busy, time = Busy(1, Retry_After="1"), Time()
    with pytest.raises(api.RetryLater):
        ask.call(busy, "models", time=time)
    assert len(busy.asked) == 1 and time.pauses == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_waits_as_long_as_the_service_says(ask: Ask, status: int) -> None:
    busy, time = Busy(2, status, Retry_After="3"), Time()
    assert ask.call(busy, "models", retries=2, time=time) == ()
    assert len(busy.asked) == 3 and time.pauses == [3, 3]


def test_the_number_of_retries_is_bounded(ask: Ask) -> None:
    busy, time = Busy(9, Retry_After="1"), Time()
    with pytest.raises(api.RetryLater):
        ask.call(busy, "models", retries=2, time=time)
    assert len(busy.asked) == 3


def test_no_retry_starts_after_the_time_for_all_of_them(ask: Ask) -> None:
    busy, time = Busy(9, Retry_After="4"), Time()
    with pytest.raises(api.RetryLater):
        ask.call(busy, "models", retries=9, retry_for_s=10, time=time)
    assert time.pauses == [4, 4]  # a third would begin at 12 s, which is known before it is waited for


def test_pauses_double_where_the_answer_names_none(ask: Ask) -> None:
    busy, time = Busy(7), Time()
    assert ask.call(busy, "models", retries=7, retry_for_s=60, time=time) == ()
    assert time.pauses == [0.5, 1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize("status", [400, 401, 408, 422, 500, 502, 504])
def test_other_errors_are_final(ask: Ask, status: int) -> None:
    busy, time = Busy(1, status, Retry_After="1"), Time()
    with pytest.raises(api.Refused):
        ask.call(busy, "models", retries=5, time=time)
    assert len(busy.asked) == 1


def test_a_retry_sends_the_image_again_even_if_it_came_from_a_file(ask: Ask, tmp_path: Any) -> None:
    (tmp_path / "image").write_bytes(b"image")
    busy = Busy(2, Retry_After="1")
    with open(tmp_path / "image", "rb") as file, pytest.raises(api.UnexpectedAnswer):
        ask.call(busy, "classify", file, retries=2, time=Time())
    assert busy.asked == [b"image"] * 3


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_a_failing_network_is_no_answer_and_its_cause_is_kept(
    ask: Ask, kind: Callable[[str], httpx.TransportError]
) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise kind("")

    with pytest.raises(api.NoAnswer) as caught:
        ask.call(handler, "classify", b"image", retries=3, time=Time())
    assert isinstance(caught.value.__cause__, httpx.TransportError) and str(caught.value) == kind.__name__


def test_an_answer_that_breaks_off_is_none(ask: Ask) -> None:
    body = Pieces([b'{"models"', httpx.ReadError("reset")])
    with pytest.raises(api.NoAnswer, match="reset"):
        ask.call(lambda _: httpx.Response(200, stream=body), "models")
    assert body.closed
