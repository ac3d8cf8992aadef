"""One page of metrics for all processes: what fronts have counted is added to what the engine has.

Fronts count in files of their own (``prometheus_client``'s multiprocess mode), so that counts outlive them
and cost the engine nothing until somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


class Totals(Collector):
    """The engine's metrics with those of all fronts there have been."""

    def __init__(self, own: CollectorRegistry, folder: Path) -> None:
        """Add what is in the files in ``folder`` to ``own``."""
        self._own, self._folder = own, folder

    def collect(self) -> Iterable[Metric]:
        """All families, each once."""
        counted = {metric.name: metric for metric in self._fronts()}
        for metric in self._own.collect():
            other = counted.pop(metric.name, None)
            yield metric if other is None else _sum(metric, other)

    def _fronts(self) -> Iterable[Metric]:
        files = [str(path) for path in self._folder.glob("*.db")]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """As ``Metrics.page``."""
        registry = CollectorRegistry()
        registry.register(self)
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type


def _sum(own: Metric, other: Metric) -> Metric:
    """Both, sample by sample; whatever one of them alone has stays as it is."""
    total = Metric(own.name, own.documentation, own.type, own.unit)
    left = {_key(sample): sample for sample in other.samples}
    for sample in own.samples:
        more = left.pop(_key(sample), None)
        total.samples.append(sample if more is None else sample._replace(value=sample.value + more.value))
    # A histogram's samples come as its readers want them: buckets, count, sum.
    order = ("_bucket", "_count", "_sum", "_total")
    groups: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for key, sample in left.items():
        groups.setdefault(tuple(pair for pair in key[1] if pair[0] != "le"), []).append(sample)
    for group in groups.values():
        total.samples += sorted(group, key=lambda s: order.index("_" + s.name.rpartition("_")[2]))
    return total


def _key(sample: Sample) -> tuple[str, tuple[tuple[str, str], ...]]:
    return sample.name, tuple(sorted(sample.labels.items()))
