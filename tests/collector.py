"""A collector of traces: takes OTLP over HTTP and keeps what it was sent."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

SERVER = 2
"""Kind of a span: a request as its server saw it."""


@dataclass(frozen=True)
class Received:
    """A span as it arrived; ids are hexadecimal, moments nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    status: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: tuple[str, ...]


@dataclass
class Collector:
    """Where it listens and what it has."""

    url: str
    spans: list[Received] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    def wait_for_request(self, patience_s: float = 20) -> list[Received]:
        """All spans, once one of them is a request's: it ends last."""
        deadline_s = time.monotonic() + patience_s
        while not any(span.kind == SERVER for span in self.spans):
            assert time.monotonic() < deadline_s, "no request has come"
            time.sleep(0.05)
        return self.spans


def _plain(attributes: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in attributes}


def _read(collector: Collector, body: bytes) -> None:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        collector.resources.append(_plain(resource.resource.attributes))
        for scope in resource.scope_spans:
            collector.spans += [
                Received(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=span.kind,
                    status=span.status.code,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    attributes=_plain(span.attributes),
                    events=tuple(event.name for event in span.events),
                )
                for span in scope.spans
            ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            _read(collector, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
