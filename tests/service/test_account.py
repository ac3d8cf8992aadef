"""The budget of a request sums to what the client waited; throughput is held against what could be."""

from __future__ import annotations

from typing import Any

import pytest

from service.profiling.account import Launches, Observed, budget_of, throughput_of, total_us
from service.profiling.parts import part
from service.profiling.span_times import LaunchTime, SpanTimes

CHECKS, BODY = part("header checks", [10e-6, 10e-6]), part("JSON", [20e-6, 20e-6])


def observed(**changed: Any) -> Observed:
    """100 requests of 10 ms each."""
    told: dict[str, Any] = {
        "name": "budget 25M",
        "connections": 2,
        "throughput": 200.0,
        "failed": 0,
        "requests": 100,
        "latency_s": 1.0,
        "client_cpu_s": 0.02,
        "server_cpu_s": 0.5,
        "request_s": 0.9,
        "decode_s": 0.05,
        "waited_s": 0.3,
        "queue_s": 0.25,
        "gather_s": 0.01,
        "infer_s": 0.48,
        "rows_s": 0.01,
        "spans": {"1": Launches(launches=50, images=100, seconds=0.2)},
        "exits": {"1": 100},
    }
    return Observed(**{**told, **changed})


def times(seconds: float) -> SpanTimes:
    """32 images of span 1 take ``seconds``."""
    launch = LaunchTime(median_s=seconds, low_s=seconds, high_s=seconds)
    names = {"model": "m@1", "device": "CPU", "precision": "f32", "machine": "a machine"}
    return SpanTimes(**names, threads=1, rounds=2, spans={"1": {32: launch}})


def test_the_parts_of_a_request_sum_to_what_the_client_waited() -> None:
    lines = budget_of(observed(), CHECKS, BODY)
    assert total_us(lines) == pytest.approx(10_000)


def test_each_part_is_where_the_service_counted_it() -> None:
    found = {line.name: line.us for line in budget_of(observed(), CHECKS, BODY)}
    assert found["client, sockets, HTTP parser"] == pytest.approx(1000)
    assert found["decode"] == pytest.approx(500)
    assert found["queues"] == pytest.approx(2500)
    assert found["stages, exits.read"] == pytest.approx(4800)
    assert found["way back to the event loop"] == pytest.approx(500)
    assert found["header checks"] == pytest.approx(10) and found["JSON"] == pytest.approx(20)
    # 9,000 in the application, without 500 to decode, 8,000 in the engine, and what was measured alone
    assert found["rest: admission, plan, body, metrics, writing"] == pytest.approx(500 - 10 - 20)


def test_the_device_bounds_what_is_around_it_on_other_cores() -> None:
    idle = observed(server_cpu_s=0.1)  # 1 ms a request
    found = throughput_of(observed(), times(0.064), idle, max_batch=32, threads=1, cores=4)
    assert found.offline == pytest.approx(500) == found.limit == found.limit_with_client
    assert found.share == pytest.approx(0.4)
    assert found.device_us == pytest.approx(2000) and found.around_us == pytest.approx(1000)


def test_all_processor_time_together_bounds_what_has_no_core_left() -> None:
    idle = observed(server_cpu_s=0.2)  # 2 ms a request around 2 ms on both cores, 0.2 ms of the client
    found = throughput_of(observed(), times(0.064), idle, max_batch=32, threads=2, cores=2)
    assert found.limit == pytest.approx(2 / 0.006)
    assert found.limit_with_client == pytest.approx(2 / 0.0062)


def test_spans_count_by_the_share_of_images_that_reach_them() -> None:
    spans = {
        "1": Launches(launches=5, images=50, seconds=0.1),
        "2-7": Launches(launches=1, images=9, seconds=1),
    }
    found = throughput_of(observed(spans=spans), times(0.064), observed(), 32, 1, 4)
    assert found.offline_us == pytest.approx(1000)  # the other span was not measured: a re-check
