"""Counts of several processes on one page; the fronts are real processes: the library counts in each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from service.front.counts import COUNTS_BYTES, KINDS
from service.front.totals import Totals
from service.metrics import Metrics

FRONT = """
import os, sys
from pathlib import Path
from service.front.counts import count_as
count_as(sys.argv[1], Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
from service.metrics import RequestMetrics
metrics = RequestMetrics()
for seconds in (0.001, 0.3):
    metrics.requests.labels("/classify", "200").inc()
    metrics.request_seconds.labels("/classify").observe(seconds)
metrics.requests.labels("/classify", "422").inc()
metrics.rejected.labels("overloaded").inc(3)
metrics.decode_seconds.observe(0.0002)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two fronts, both dead by now, have counted."""
    root = tmp_path_factory.mktemp("counts")
    for post in ("worker 1", "worker 2"):
        count(root, post)
    return root


def count(folder: Path, post: str) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", FRONT, post], env=environment, check=True)


async def samples(metrics: Metrics, folder: Path, accept: str = "") -> dict[str, float]:
    page, _ = await Totals(metrics.registry, folder).page(accept)
    parse = openmetrics if accept else text_string_to_metric_families
    found: dict[str, float] = {}
    for family in parse(page.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            assert f"{sample.name} {labels}" not in found
            found[f"{sample.name} {labels}"] = sample.value
    return found


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
async def test_counts_of_all_processes_are_added_up(folder: Path, accept: str) -> None:
    metrics = Metrics()
    metrics.requests.labels("/classify", "200").inc(10)
    metrics.request_seconds.labels("/classify").observe(0.3)
    metrics.requests.labels("/readyz", "200").inc()
    metrics.images.labels("small", "1").inc(7)
    found = await samples(metrics, folder, accept)
    assert found["exitramp_requests_total code=200,route=/classify"] == 14
    assert found["exitramp_requests_total code=422,route=/classify"] == 2
    assert found["exitramp_requests_total code=200,route=/readyz"] == 1
    assert found["exitramp_images_total exit=1,model=small"] == 7
    assert found["exitramp_rejected_total reason=overloaded"] == 6
    assert found["exitramp_decode_seconds_count "] == 2
    seconds = "exitramp_request_seconds"
    assert found[f"{seconds}_count route=/classify"] == 5
    assert found[f"{seconds}_sum route=/classify"] == pytest.approx(0.902)
    assert found[f"{seconds}_bucket le=0.001,route=/classify"] == 2
    assert found[f"{seconds}_bucket le=0.4,route=/classify"] == 5


async def test_what_only_fronts_have_seen_is_there(folder: Path) -> None:
    found = await samples(Metrics(), folder)
    assert found["exitramp_request_seconds_bucket le=+Inf,route=/classify"] == 4
    assert found["exitramp_requests_total code=200,route=/classify"] == 4


async def test_who_follows_at_a_post_counts_on_in_the_files_of_who_was_there(tmp_path: Path) -> None:
    for lives in (1, 2, 3):
        count(tmp_path, "worker 1")
        found = await samples(Metrics(), tmp_path)
        assert found["exitramp_requests_total code=200,route=/classify"] == 2 * lives
        assert found["exitramp_request_seconds_sum route=/classify"] == pytest.approx(0.301 * lives)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) == len(KINDS) * COUNTS_BYTES


async def test_exemplars_of_the_engine_stay(folder: Path) -> None:
    metrics = Metrics()
    metrics.request_seconds.labels("/classify").observe(0.3, {"trace_id": "abc"})
    page, kind = await Totals(metrics.registry, folder).page("application/openmetrics-text")
    assert "openmetrics" in kind and b'# {trace_id="abc"} 0.3' in page


async def test_without_fronts_the_page_is_the_engines(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.requests.labels("/classify", "200").inc(10)
    found = await samples(metrics, tmp_path)
    assert found["exitramp_requests_total code=200,route=/classify"] == 10
