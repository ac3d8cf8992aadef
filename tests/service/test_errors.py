"""The error tree against the contract, and its rendering."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_store import preprocess
from service import errors
from service.errors import (
    ClientError,
    InternalError,
    MethodNotAllowed,
    Overloaded,
    RetryLater,
    ServerError,
    ServiceError,
    TooLarge,
    Unauthorized,
    from_image_error,
)
from service.problems import problem

CONTRACT = {
    (400, "invalid_header"),
    (401, "unauthorized"),
    (404, "unknown_model"),
    (413, "too_large"),
    (415, "unsupported_media_type"),
    (422, "undecodable_image"),
    (422, "budget_too_small"),
    (429, "quota_exhausted"),
    (503, "overloaded"),
    (503, "not_ready"),
    (503, "draining"),
    (504, "deadline_exceeded"),
}
"""The table of the HTTP contract."""

BEYOND_IT = {
    (403, "forbidden"),
    (400, "invalid_request"),
    (404, "not_found"),
    (405, "method_not_allowed"),
    (408, "request_timeout"),
    (431, "headers_too_large"),
    (500, "internal_error"),
}
"""What else can go wrong with any request."""

OF_EXPLAIN = {(422, "not_explainable")}
"""What else can go wrong with ``/explain``."""

BRANCHES = (ServiceError, ClientError, RetryLater, ServerError)
LEAVES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ServiceError) and kind not in BRANCHES
]


def occurrence(kind: type[ServiceError], detail: str = "too much: 5 of 4") -> ServiceError:
    arguments: dict[str, Any] = {"detail": detail, "retry_after_s": 2.5, "allowed": ["GET", "HEAD"]}
    return kind(**{name: arguments[name] for name in inspect.signature(kind).parameters if name in arguments})


class ImageFailure(Exception):
    """Stands for ``model_store.preprocess.ImageError``."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def test_the_tree_holds_exactly_the_contract_and_the_general_failures() -> None:
    assert {(kind.status, kind.code) for kind in LEAVES} == CONTRACT | BEYOND_IT | OF_EXPLAIN


def test_no_two_errors_share_a_code() -> None:
    assert {code: n for code, n in Counter(kind.code for kind in LEAVES).items() if n > 1} == {}
    assert {
        pair: n for pair, n in Counter((kind.status, kind.code) for kind in LEAVES).items() if n > 1
    } == {}


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    drawn = [line.split()[1:] for line in (errors.__doc__ or "").splitlines() if line.startswith("    . ")]
    assert sorted(drawn) == sorted([kind.__name__, str(kind.status), kind.code] for kind in LEAVES)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_is_rendered_as_a_problem_with_its_own_members(kind: type[ServiceError]) -> None:
    error = occurrence(kind)
    response = problem(error)
    assert response.status_code == kind.status
    assert response.headers["content-type"] == "application/problem+json"
    assert orjson.loads(response.body) == {
        "type": f"urn:exitramp:error:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail,
        "code": kind.code,
    }
    assert str(error) == error.detail


@pytest.mark.parametrize("kind", LEAVES)
def test_a_problem_repeats_the_request_id_when_there_is_one(kind: type[ServiceError]) -> None:
    assert orjson.loads(problem(occurrence(kind), "abc-1").body)["request_id"] == "abc-1"


@pytest.mark.parametrize("kind", LEAVES)
def test_retry_after_is_sent_exactly_where_waiting_helps(kind: type[ServiceError]) -> None:
    assert ("retry-after" in problem(occurrence(kind)).headers) == (kind.status in (429, 503))


@pytest.mark.parametrize(
    ("retry_after_s", "header"), [(-3.0, "1"), (0.0, "1"), (0.2, "1"), (1.0, "1"), (1.001, "2"), (59.5, "60")]
)
def test_retry_after_is_rounded_up_to_whole_seconds_and_is_at_least_one(
    retry_after_s: float, header: str
) -> None:
    assert problem(Overloaded("full", retry_after_s)).headers["retry-after"] == header


def test_unauthorized_names_the_header_it_wants_in_a_challenge() -> None:
    challenge = problem(Unauthorized("no key")).headers["www-authenticate"]
    assert challenge == 'ApiKey realm="exitramp", header="X-API-Key"'


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert problem(MethodNotAllowed("DELETE", ["GET", "HEAD"])).headers["allow"] == "GET, HEAD"


def test_an_internal_error_has_no_way_to_say_anything_internal() -> None:
    assert list(inspect.signature(InternalError).parameters) == []


@given(st.text())
@example("\udc80 is half a character")
def test_any_detail_can_be_rendered(detail: str) -> None:
    response = problem(TooLarge(detail))
    assert orjson.loads(response.body)["detail"] == detail.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("code", "status"), [("too_large", 413), ("unsupported_media_type", 415), ("undecodable_image", 422)]
)
def test_an_image_error_keeps_its_code_and_its_detail(code: str, status: int) -> None:
    error = from_image_error(ImageFailure(code, "9 pixels, 4 allowed"))
    assert (error.status, error.code, error.detail) == (status, code, "9 pixels, 4 allowed")


def test_every_image_error_of_the_model_store_has_its_status_here() -> None:
    kinds = preprocess.ImageError.__subclasses__()
    assert len(kinds) == 3
    for kind in kinds:
        assert from_image_error(kind("bad")).status == kind.status


def test_an_image_error_of_an_unknown_code_does_not_leak_its_text() -> None:
    error = from_image_error(ImageFailure("surprise", "/srv/secret"))
    assert (error.status, error.code) == (500, "internal_error")
    assert "secret" not in error.detail
