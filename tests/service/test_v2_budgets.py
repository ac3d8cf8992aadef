"""Budgets in the parameters of an inference request, and beside headers."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.headers import Budget
from service.routes.v2.budgets import merged

NONE = Budget(None, None, None)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", ["flop_budget", "flop_limit", "deadline_ms", "timeout"])
@pytest.mark.parametrize("value", [True, False, {}, nested(1000)], ids=lambda value: type(value).__name__)
def test_a_parameter_that_is_no_number_is_refused_whatever_it_is(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} is a number, not a"):
        merged(NONE, {name: value})


@pytest.mark.parametrize("value", [25_000_000, 2.5e7, "25M", "2.5e7"])
def test_a_parameter_says_what_a_header_says(value: Any) -> None:
    assert merged(NONE, {"flop_budget": value}) == Budget(25e6, None, None)
    assert merged(Budget(25e6, None, None), {"flop_budget": value}) == Budget(25e6, None, None)
    assert merged(NONE, {"flop_limit": value, "deadline_ms": "50"}) == Budget(None, 25e6, 50)


def test_a_timeout_is_a_deadline_in_microseconds_and_zero_is_none() -> None:
    assert merged(NONE, {"timeout": 50_000}) == Budget(None, None, 50)
    assert merged(NONE, {"timeout": 50_000, "deadline_ms": 50}) == Budget(None, None, 50)
    assert merged(Budget(None, None, 20), {"timeout": 0, "priority": 3}) == Budget(None, None, 20)


@pytest.mark.parametrize("name", ["flop_budget", "flop_limit", "deadline_ms", "timeout"])
@pytest.mark.parametrize("value", [-1, "0", True, [1], {}, "", "25 M", float("inf"), "nan", 10**400])
def test_an_unusable_parameter_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=name):
        merged(NONE, {name: value})


@pytest.mark.parametrize(
    ("headers", "parameters", "told"),
    [
        (Budget(25e6, None, None), {"flop_budget": "26M"}, "X-FLOP-Budget 2.5e+07, flop_budget 2.6e+07"),
        (Budget(None, 1e6, None), {"flop_limit": 2e6}, "X-FLOP-Limit"),
        (Budget(None, None, 5), {"deadline_ms": 6}, "X-Deadline-Ms"),
        (Budget(None, None, 5), {"timeout": 6000}, "timeout 6"),
        (NONE, {"deadline_ms": 5, "timeout": 6000}, "deadline_ms 5, timeout 6"),
    ],
)
def test_two_ways_to_say_it_must_not_contradict(headers: Budget, parameters: Any, told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        merged(headers, parameters)
    assert told in caught.value.detail
