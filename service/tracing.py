"""Traces for OpenTelemetry: a span for each request, and under it decoding, queues and stages.

Imported only where ``EXITRAMP_OTLP_ENDPOINT`` is set; without it a request pays for one comparison.
"""

from __future__ import annotations

import re
import threading
import time
from itertools import groupby

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from service.engine.ticket import Launch

PROBES = re.compile(r"/(livez|readyz|metrics|v2/health/.*|v2/models/.*/ready)")
"""Paths without traces: probes and scrapes come all day, and tell nothing that way."""

EXPORT_TIMEOUT_S = 5
"""Longest wait for the collector, seconds."""

CLOSE_S = 3
"""Longest time to send what is left at the end of the process, seconds: less than what is left of the grace
periods of ``deploy/`` once open requests have had theirs."""

TRACES_PATH = "/v1/traces"
"""Where a collector takes traces."""

CONTEXT_HEADERS = (b"traceparent", b"tracestate")

Attribute = str | bool | int | float


class Tracing:
    """Makes the spans of requests and sends them to a collector, from a thread of its own."""

    def __init__(
        self, endpoint: str, share: float, version: str, exporter: SpanExporter | None = None
    ) -> None:
        """Begin to send; the standard variables ``OTEL_*`` add headers, certificates and resource attributes.

        Args:
            endpoint: The collector's address for OTLP over HTTP, with or without ``/v1/traces``.
            share: Of the requests without a trace context that are traced, 0 to 1. Those with one are traced
                if their sender traces them.
            version: Of the service.
            exporter: Takes the spans instead of the collector.
        """
        resource = Resource({"service.name": "exitramp", "service.version": version})
        resource = Resource.create().merge(resource).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)), resource=resource, shutdown_on_exit=False
        )
        address = endpoint.rstrip("/").removesuffix(TRACES_PATH) + TRACES_PATH
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter(address, timeout=EXPORT_TIMEOUT_S))
        )
        self._tracer = self._provider.get_tracer("exitramp", version)
        self._context = TraceContextTextMapPropagator()

    def begin(self, scope: Scope, request_id: str) -> RequestTrace | None:
        """The trace of a request that has just come; ``None`` if it is not among those that are traced."""
        if PROBES.fullmatch(scope["path"]):
            return None
        carrier = {
            name.decode(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in CONTEXT_HEADERS
        }
        span = self._tracer.start_span(
            scope["method"],
            context=self._context.extract(carrier) if carrier else None,
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "url.scheme": scope.get("scheme", "http"),
                "exitramp.request_id": request_id,
            },
        )
        return RequestTrace(self._tracer, span) if span.is_recording() else None

    def close(self) -> None:
        """Send what is left; blocks up to ``CLOSE_S``, what has not been sent by then is lost."""
        # The SDK would wait for its whole queue, a collector's timeout for each 512 spans of 2,048.
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class RequestTrace:
    """The spans of one request.

    Attributes:
        trail: The launches that its images are in; the engine adds to it.
        exemplar: Labels that lead from a metric to the trace.
    """

    def __init__(self, tracer: trace.Tracer, span: Span) -> None:
        """Continue ``span``, which has begun."""
        self._tracer, self._span = tracer, span
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._under = trace.set_span_in_context(span)
        self.trail: list[Launch] = []
        context = span.get_span_context()
        self.exemplar = {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }

    def decoded(self, started_s: float, images: int) -> None:
        """Enter that the request's ``images`` are pixels now; it was begun at ``started_s``."""
        self._child("decode", started_s, time.monotonic(), {"exitramp.images": images})

    def note(self, **attributes: Attribute | None) -> None:
        """Enter what the request asked for or what it got; what is ``None`` is left out."""
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(f"exitramp.{name}", value)

    def end(self, method: str, route: str, code: str, failure: Exception | None) -> None:
        """Close the request's span, with its queues and launches under it.

        Args:
            method: Of the request.
            route: As the metrics name it.
            code: Status of the answer.
            failure: A bug of ours or the device's, if that is what became of it.
        """
        for _, mine in groupby(self.trail.copy(), key=lambda launch: (launch.started_s, launch.stage)):
            self._launch(list(mine))
        span = self._span
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", int(code))
        if failure is not None:
            span.record_exception(failure)
        if code >= "500":
            span.set_attribute("error.type", type(failure).__name__ if failure else code)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _launch(self, mine: list[Launch]) -> None:
        """One launch, and the wait for it, of however many of the request's images."""
        first = mine[0]
        ended_s = first.started_s + first.times.total_s
        attributes: dict[str, Attribute] = {
            "exitramp.model": first.model,
            "exitramp.stage": first.stage,
            "exitramp.images": len(mine),
            "exitramp.batch_size": first.batch_size,
            "exitramp.input_ms": first.times.input_s * 1000,
            "exitramp.infer_ms": first.times.infer_s * 1000,
            "exitramp.output_ms": first.times.output_s * 1000,
        }
        queued_s = min(launch.queued_s for launch in mine)
        self._child("queue", queued_s, first.started_s, {"exitramp.stage": first.stage})
        self._child(f"stage {first.stage}", first.started_s, ended_s, attributes)

    def _child(self, name: str, from_s: float, until_s: float, attributes: dict[str, Attribute]) -> None:
        span = self._tracer.start_span(name, self._under, attributes=attributes, start_time=self._at(from_s))
        span.end(self._at(until_s))

    def _at(self, monotonic_s: float) -> int:
        return self._epoch_ns + int(monotonic_s * 1e9)
