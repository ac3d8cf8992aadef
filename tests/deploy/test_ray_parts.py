"""What belongs to Ray Serve and needs no cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from deploy.ray.pages import merge
from deploy.ray.scale import Scale

ROOT = Path(__file__).parents[2]

CLAIM = """
import os, sys, threading
from deploy.ray.cores import claim_cores
ready, go = threading.Event(), threading.Event()
early = []
thread = threading.Thread(target=lambda: (ready.set(), go.wait(), early.append(os.sched_getaffinity(0))))
thread.start()
ready.wait()
try:
    claims = claim_cores(int(sys.argv[1]))
except RuntimeError as error:
    print("refused:", error, flush=True)
else:
    go.set()
    thread.join()
    print(*sorted(early[0]), flush=True)
    sys.stdin.read()
finally:
    go.set()
"""


def page(requests: int, kind: str) -> str:
    registry = CollectorRegistry()
    Counter("made_total", "Made.", ["kind"], registry=registry).labels(kind).inc(requests)
    Gauge("depth", 'With "quotes" and a \\ backslash.', registry=registry).set(requests / 2)
    Histogram("took_seconds", "Took.", buckets=(1, 2), registry=registry).observe(requests)
    return generate_latest(registry).decode()


def test_a_merged_page_has_every_sample_of_every_replica_and_says_whose_it_is() -> None:
    pages = {"a": page(1, 'odd "kind"'), "b": page(3, "plain")}
    merged = {family.name: family for family in text_string_to_metric_families(merge(pages))}
    assert set(merged) >= {"made", "depth", "took_seconds"}
    for replica, own in pages.items():
        for family in text_string_to_metric_families(own):
            assert merged[family.name].type == family.type
            assert merged[family.name].documentation == family.documentation
            for sample in family.samples:
                labels = {**sample.labels, "replica": replica}
                (same,) = [
                    s for s in merged[family.name].samples if (s.name, s.labels) == (sample.name, labels)
                ]
                assert same.value == sample.value


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone can keep a process to cores")
def test_processes_claim_different_cores_until_none_is_left_and_the_end_of_one_frees_its_own() -> None:
    cores = sorted(os.sched_getaffinity(0))
    holders = [claim(1) for _ in cores]
    try:
        assert sorted(line(holder) for holder in holders) == sorted(map(str, cores))
        late = claim(1)
        assert line(late) == "refused: 1 processor cores wanted, 0 are free of other replicas"
        end(late)
        holders[0].kill()
        end(holders.pop(0))
        holders.append(claim(1))
        assert line(holders[-1]) in map(str, cores)
    finally:
        for holder in holders:
            end(holder)


def claim(count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLAIM, str(count)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def test_the_configuration_is_one_that_serve_takes_and_builds() -> None:
    """In a process of its own: what Ray imports is not held to our warnings."""
    pytest.importorskip("ray")
    done = python(
        "import yaml\n"
        "from ray.serve.schema import ServeDeploySchema\n"
        "config = ServeDeploySchema.model_validate(yaml.safe_load(open('deploy/ray/config.yaml')))\n"
        "(application,) = config.applications\n"
        "assert application.import_path == 'deploy.ray.app:build'\n"
        "from deploy.ray.app import build\n"
        "from deploy.ray.scale import Scale\n"
        "assert set(application.args) == set(Scale.model_fields)\n"
        "from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as call\n"
        "call(build, application.args)\n"
        "import os\n"
        "os.environ['EXITRAMP_ADMIN_KEY_SHA256'] = 64 * '0'\n"
        "call(build, {})\n"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ValueError: EXITRAMP_ADMIN_KEY_SHA256: "), done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas 2 is below min_replicas 3"),
        ({"cpus": "0.5", "own_cores": "true"}, "own_cores needs a whole number of cpus, not 0.5"),
        ({"replica": 2}, "Extra inputs are not permitted"),
    ],
)
def test_what_replicas_cannot_do_is_refused_before_any_starts(
    arguments: dict[str, object], told: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        Scale.model_validate(arguments)


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
