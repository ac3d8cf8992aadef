"""Spans of requests as the exporter gets them, without a server."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import tomllib
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from service import VERSION
from service.engine.ticket import Launch
from service.engine.times import LaunchTimes
from service.metrics import Metrics
from service.observe import TRACE, Observed
from service.settings import Settings
from service.tracing import Tracing

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"
TIMES = LaunchTimes(0.001, 0.002, 0.003)


async def spans_of(
    app: Any, share: float = 1, headers: dict[bytes, bytes] | None = None
) -> list[ReadableSpan]:
    """What is exported of one request to ``app``."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(NOWHERE, share, VERSION, exporter)

    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/x", "headers": list((headers or {}).items())}
    await Observed(app, Metrics(), tracing=tracing)(scope, receive, send)
    tracing.close()
    return list(exporter.get_finished_spans())


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("a secret of ours")


async def sound(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def launched(scope: Scope, receive: Receive, send: Send) -> None:
    """As the engine would: three images enter stage 1 together, two of them meet again in stage 2."""
    trail = scope[TRACE].trail
    trail += [Launch("net", "1", 8, queued_s, 10.0, TIMES) for queued_s in (9.0, 8.0, 9.5)]
    trail += [Launch("net", "2-4", 2, 10.006, 11.0, TIMES) for _ in range(2)]
    await sound(scope, receive, send)


async def test_a_bug_of_ours_is_an_error_with_its_cause() -> None:
    (span,) = await spans_of(broken)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None and span.attributes["error.type"] == "ZeroDivisionError"
    assert span.attributes["http.response.status_code"] == 500
    assert [event.name for event in span.events] == ["exception"]


async def test_images_in_one_launch_are_one_span_that_begins_where_the_first_of_them_waited() -> None:
    *children, _ = await spans_of(launched)
    assert [child.name for child in children] == ["queue", "stage 1", "queue", "stage 2-4"]
    queue, first, _, second = children
    assert (first.attributes or {})["exitramp.images"] == 3
    assert (first.attributes or {})["exitramp.batch_size"] == 8
    assert (second.attributes or {})["exitramp.images"] == 2
    waited_ns, took_ns = ((span.end_time or 0) - (span.start_time or 0) for span in (queue, first))
    assert waited_ns == pytest.approx(2e9, abs=1000) and took_ns == pytest.approx(6e6, abs=1000)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 1)])
async def test_the_share_decides_where_the_request_says_nothing(share: float, expected: int) -> None:
    assert len(await spans_of(sound, share)) == expected


@pytest.mark.parametrize(("flag", "expected"), [(b"01", 1), (b"00", 0)])
@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_the_sender_s_decision_holds(flag: bytes, expected: int, share: float) -> None:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-" + flag
    spans = await spans_of(sound, share, {b"traceparent": parent})
    assert len(spans) == expected
    assert all(span.parent is not None and span.parent.is_remote for span in spans)


async def test_a_context_that_is_none_begins_a_trace_of_its_own() -> None:
    (span,) = await spans_of(sound, headers={b"traceparent": b"\xff nonsense"})
    assert span.parent is None


@pytest.mark.parametrize("path", ["", "/", "/v1/traces", "/prefix", "/prefix/v1/traces"])
def test_the_collector_may_be_named_with_and_without_the_path_of_traces(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []

    def exporter(address: str, timeout: float) -> InMemorySpanExporter:
        named.append(address)
        return InMemorySpanExporter()

    monkeypatch.setattr("service.tracing.OTLPSpanExporter", exporter)
    Tracing(NOWHERE + path, 1, VERSION).close()
    assert named == [f"{NOWHERE}{'/prefix' if 'prefix' in path else ''}/v1/traces"]


def test_an_endpoint_without_the_extra_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(ValidationError, match=r"pip install 'exitramp\[tracing\]'"):
        Settings(otlp_endpoint=NOWHERE)  # type: ignore[arg-type]
    assert Settings().otlp_endpoint is None


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/v2/health/ready", "/v2/models/a/versions/1/ready"])
def test_probes_and_scrapes_are_not_traced(path: str) -> None:
    tracing = Tracing(NOWHERE, 1, VERSION, InMemorySpanExporter())
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    assert tracing.begin(scope, "id") is None
    assert tracing.begin({**scope, "path": "/models/a"}, "id") is not None
    tracing.close()


def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tracing.CLOSE_S", 0.2)
    hanging = threading.Event()

    class Hanging(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            hanging.wait(30)
            return SpanExportResult.FAILURE

    tracing = Tracing(NOWHERE, 1, VERSION, Hanging())
    for _ in range(2000):
        trace = tracing.begin({"type": "http", "method": "GET", "path": "/x", "headers": []}, "id")
        assert trace is not None
        trace.end("GET", "/x", "200", None)
    started_s = time.monotonic()
    tracing.close()
    assert time.monotonic() - started_s < 5
    hanging.set()


def test_without_an_endpoint_neither_the_sdk_nor_our_part_is_imported() -> None:
    program = (
        "import sys; from service.app import create_app; from service.settings import Settings; "
        "create_app(Settings()); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'service.tracing'))])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert told.stdout == "[]\n"


class BrokenError(Exception):
    """Unlike those of the language it can be referred to weakly."""


async def test_a_failure_leaves_no_cycle_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "service.observe.logger", Mock()
    )  # what pytest captures of the log holds the error, too
    seen: list[weakref.ref[BrokenError]] = []

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        error = BrokenError()
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def none(*_: object) -> Any:
        """Receives nothing, sends nowhere."""

    gc.disable()
    try:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await Observed(failing, Metrics())(scope, none, none)
        assert seen[0]() is None
    finally:
        gc.enable()
