"""Traces of a real server, as a collector receives them, and the exemplars that lead to them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from collector import SERVER, Collector, Received, collecting
from conftest import SmallStore
from live import Server, serving

INTERNAL, ERROR = 1, 2
SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = SENT.removesuffix("01") + "00"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def server(small_store: SmallStore, collector: Collector) -> Iterator[Server]:
    settings = {
        "MODEL_STORE": str(small_store.root),
        "MODELS": '["small"]',
        "OTLP_ENDPOINT": collector.url,
        "TRACE_SHARE": "0",  # only what the tests send with a context is traced
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # ms; the SDK's own 5 s would be the test's time
        with serving(settings) as running:
            yield running


@pytest.fixture
def traced(server: Server, collector: Collector) -> Callable[..., list[Received]]:
    """Sends one traced request and gives its spans, the request's own last."""

    def send(path: str, code: int, **request: object) -> list[Received]:
        collector.spans.clear()
        headers = {"traceparent": SENT, **request.pop("headers", {})}  # type: ignore[dict-item]
        assert server.client.post(path, headers=headers, **request).status_code == code  # type: ignore[arg-type]
        collector.wait_for_request()
        return sorted(collector.spans, key=lambda span: (span.kind == SERVER, span.start_ns))

    return send


def test_a_request_has_its_decoding_queues_and_stages_under_it(
    traced: Callable[..., list[Received]], png: Callable[[int], bytes], collector: Collector
) -> None:
    *children, request = traced(
        "/classify", 200, content=png(1), headers={"X-FLOP-Budget": "1G", "X-Request-Id": "mine"}
    )
    assert (request.name, request.kind) == ("POST /classify", SERVER)
    assert (request.trace_id, request.parent_id) == tuple(SENT.split("-")[1:3])
    assert all(child.parent_id == request.span_id and child.kind == INTERNAL for child in children)
    assert [child.name for child in children][:3] == ["decode", "queue", "stage 1"]
    moments = [moment for child in children for moment in (child.start_ns, child.end_ns)]
    # A nanosecond is lost where seconds become integers.
    assert request.start_ns - 1000 <= moments[0] and moments[-1] <= request.end_ns
    assert all(earlier <= later + 1000 for earlier, later in pairwise(moments))
    told = request.attributes
    assert told["http.route"] == "/classify" and told["http.response.status_code"] == 200
    assert told["exitramp.request_id"] == "mine" and told["exitramp.model"] == "small"
    assert told["exitramp.budget_flops"] == 1e9 and "exitramp.limit_flops" not in told
    stages = [child for child in children if child.name.startswith("stage")]
    assert {child.attributes["exitramp.batch_size"] for child in stages} == {1}
    assert stages[-1].name.endswith(str(told["exitramp.exit"]))
    assert collector.resources[-1]["service.name"] == "exitramp"


def test_images_of_one_request_share_the_spans_of_their_launches(
    traced: Callable[..., list[Received]], png: Callable[[int], bytes]
) -> None:
    files = [("image", (f"{seed}.png", png(seed))) for seed in range(5)]
    *children, request = traced("/classify", 200, files=files)
    first = [child for child in children if child.name == "stage 1"]
    assert sum(child.attributes["exitramp.images"] for child in first) == 5
    assert request.attributes["exitramp.images"] == request.attributes["exitramp.answered"] == 5


def test_a_client_s_mistake_is_no_error_of_the_service_and_a_stream_is_traced(
    traced: Callable[..., list[Received]], png: Callable[[int], bytes]
) -> None:
    (refused,) = traced("/classify", 422, content=png(1), headers={"X-FLOP-Limit": "1"})
    assert refused.attributes["http.response.status_code"] == 422 and refused.status != ERROR
    *_, late = traced("/classify", 504, content=png(1), headers={"X-Deadline-Ms": "0.001"})
    assert late.status == ERROR and late.attributes["error.type"] == "504"
    *children, stream = traced("/classify/stream", 200, content=png(1))
    assert stream.name == "POST /classify/stream" and "stage 1" in {child.name for child in children}


def test_a_request_whose_sender_does_not_trace_is_not_traced_nor_are_probes(
    server: Server, collector: Collector, png: Callable[[int], bytes]
) -> None:
    collector.spans.clear()
    for headers in ({}, {"traceparent": NOT_SAMPLED}, {"traceparent": "nonsense"}):
        assert server.client.post("/classify", content=png(1), headers=headers).status_code == 200
    server.client.get("/readyz", headers={"traceparent": SENT})
    server.client.get("/models", headers={"traceparent": SENT})  # the only one that is sent
    collector.wait_for_request()
    assert [span.name for span in collector.spans] == ["GET /models"]


def test_exemplars_lead_from_the_latency_histogram_to_the_trace(
    server: Server, traced: Callable[..., list[Received]], png: Callable[[int], bytes]
) -> None:
    *_, request = traced("/classify", 200, content=png(2))
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;version=0.0.4;q=0.5"}
    answer = server.client.get("/metrics", headers=accept)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    ids = f'{{span_id="{request.span_id}",trace_id="{request.trace_id}"}}'
    line = r'exitramp_request_seconds_bucket{le="[\d.]+",route="/classify"} \d+.0 # ' + re.escape(ids)
    assert re.search(line, answer.text)
    assert answer.text.endswith("# EOF\n")
    plain = server.client.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain") and "trace_id" not in plain.text


def test_a_collector_that_is_away_costs_no_answer_and_does_not_hold_up_the_end(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    settings = {
        "MODEL_STORE": str(small_store.root),
        "MODELS": '["small"]',
        "OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    with serving(settings) as server:
        assert server.client.post("/classify", content=png(1)).status_code == 200
        started_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_s < 8
