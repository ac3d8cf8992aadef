"""Everything that Prometheus sees: one registry, base units, prefix ``exitramp_``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a time stamp beside every counter doubles the page and nobody reads it

LATENCY_S = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.04, 0.06, 0.1),
    *(0.16, 0.25, 0.4, 0.5, 0.6, 1.0, 1.6, 2.5, 4.0, 6.0, 10.0),
)
"""Bucket bounds of latencies, seconds: resolve 0.5 ms, reach 10 s, and one is the latency objective."""

SHORT_S = (0.00005, 0.0001, 0.0002, 0.0004, 0.0008, *LATENCY_S[1:])
"""Bucket bounds of parts of a request, seconds."""

BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Bucket bounds of batch sizes."""

FLOPS = (
    1e6,
    2e6,
    5e6,
    1e7,
    1.6e7,
    2.2e7,
    3.1e7,
    3.6e7,
    4.3e7,
    4.9e7,
    5.4e7,
    6.5e7,
    1e8,
    2e8,
    5e8,
    1e9,
    2e9,
    1e10,
    4e10,
)
"""Bucket bounds of an image's FLOPs: each exit of the embedded networks in a bucket of its own."""


REASONS = ("unauthorized", "quota_exhausted", "overloaded", "not_ready", "draining")
"""Why requests are refused: the codes of such errors."""


DEVICE_FAILURES = ("error", "hung", "not_finite", "out_of_memory")
"""Why launches fail."""


class RequestMetrics:
    """What the process that reads a request can say of it.

    Attributes:
        registry: Where they are.
    """

    def __init__(self) -> None:
        """Create them, empty, in a registry of their own."""
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "exitramp_requests_total", "Answered requests.", ["route", "code"], registry=registry
        )
        self.request_seconds = Histogram(
            "exitramp_request_seconds",
            "Time from a request's headers to its answer.",
            ["route"],
            buckets=LATENCY_S,
            registry=registry,
        )
        self.decode_seconds = Histogram(
            "exitramp_decode_seconds", "Time to decode one image.", buckets=SHORT_S, registry=registry
        )
        self.rejected = Counter(
            "exitramp_rejected_total",
            "Requests refused for lack of room or rights.",
            ["reason"],
            registry=registry,
        )
        for reason in REASONS:
            self.rejected.labels(reason)  # from zero on: rates miss the increase that makes a series appear
        self.cancelled = Counter(
            "exitramp_cancelled_total", "Requests whose client left before the answer.", registry=registry
        )


class Metrics(RequestMetrics):
    """The service's metrics. Not a singleton: every application has its own registry."""

    def __init__(self) -> None:
        """Create all metrics, empty."""
        super().__init__()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests()
        self._images()
        self._models()
        self._engine()

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their content type.

        Args:
            accept: What the reader takes: OpenMetrics, which has exemplars, or else Prometheus' text.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _requests(self) -> None:
        registry = self.registry
        self.in_flight = Gauge(
            "exitramp_in_flight", "Requests admitted and not yet answered.", registry=registry
        )
        self.in_flight_limit = Gauge(
            "exitramp_in_flight_limit", "Requests that may be in flight; more are refused.", registry=registry
        )
        self.quota_store_up = Gauge(
            "exitramp_quota_store_up",
            "1 if Redis, where replicas share quotas, answered when last asked, else 0: each grants them.",
            ["store"],  # without a store there is no sample
            registry=registry,
        )

    def _images(self) -> None:
        registry, model = self.registry, ["model"]
        self.images = Counter(
            "exitramp_images_total",
            "Answered images by the exit (1-based) that answered.",
            ["model", "exit"],
            registry=registry,
        )
        self.image_flops = Histogram(
            "exitramp_image_flops", "FLOPs charged per image.", model, buckets=FLOPS, registry=registry
        )
        self.flops = Counter(
            "exitramp_flops_total",
            "FLOPs: charged (the images' own paths) or executed (everything that ran, padding too).",
            ["model", "kind"],
            registry=registry,
        )
        self.budget_flops = Counter(
            "exitramp_budget_flops_total",
            "FLOPs that requests allowed, of each image at most what the whole network costs.",
            model,
            registry=registry,
        )
        self.degraded = Counter(
            "exitramp_degraded_total",
            "Answers under a default budget that load had made smaller.",
            model,
            registry=registry,
        )

        self.brownout = Gauge(
            "exitramp_brownout",
            "How far load has shrunk default budgets: 0 not at all, 1 to the cheapest exit.",
            registry=registry,
        )

    def _models(self) -> None:
        registry = self.registry
        self.exit_agreement = Gauge(
            "exitramp_exit_agreement",
            "Share of the last 1,000 re-checked leavers of an exit with which the last exit agrees.",
            ["model", "exit"],
            registry=registry,
        )
        self.rechecks = Counter(
            "exitramp_rechecks_total",
            "Early leavers that also ran to the last exit.",
            ["model", "exit"],
            registry=registry,
        )
        self.rechecks_agreed = Counter(
            "exitramp_rechecks_agreed_total",
            "Of these, those with which the last exit agreed.",
            ["model", "exit"],
            registry=registry,
        )
        self.model_info = Gauge(
            "exitramp_model_info",
            "1 for each loaded model.",
            ["model", "version", "task", "policy", "device"],
            registry=registry,
        )

    def _engine(self) -> None:
        registry, stage = self.registry, ["model", "stage"]
        self.queue_seconds = Histogram(
            "exitramp_queue_seconds",
            "Time an image spent in queues.",
            ["model"],
            buckets=SHORT_S,
            registry=registry,
        )
        self.stage_queue_seconds = Histogram(
            "exitramp_stage_queue_seconds",
            "Time for which the image of a launch that waited longest waited for it.",
            stage,
            buckets=SHORT_S,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "exitramp_stage_seconds", "Time of one launch.", stage, buckets=SHORT_S, registry=registry
        )
        self.batch_size = Histogram(
            "exitramp_batch_size", "Images in one launch.", stage, buckets=BATCH, registry=registry
        )
        self.queue_depth = Gauge(
            "exitramp_queue_depth", "Images waiting for a launch.", stage, registry=registry
        )
        self.device_failures = Counter(
            "exitramp_device_failures_total",
            "Launches that raised, ran out of memory, returned what is no number, or did not end in time.",
            ["model", "reason"],
            registry=registry,
        )
        self.gpu_memory = Gauge(
            "exitramp_gpu_memory_bytes",
            "Memory of a CUDA device: total, used (by anybody), reserved and allocated (by this process).",
            ["device", "kind"],  # without a device there is no sample
            registry=registry,
        )
