"""The wall clock steps: nothing that waits, expires or is due looks at it."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from conftest import SmallStore
from figures import Figure
from live import Server, serving
from open_inference import settings_of
from steady import asking
from test_conventions import MODULES

WALL_CLOCK = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}

DATES = {
    "service.observe": "the Date of an answer",
    "service.tracing": "when a trace began",
    "service.engine.statistics": "the protocol's last_inference",
    "service.engine.quantization": "when a graph was made",
    "model_store.training.publish": "when an artifact was made",
    "model_store.training.imports": "when an artifact was made",
    "loadtest.report": "when a report was made",
    "deploy.grafana.render": "the period that Prometheus is asked about",
}
"""Modules that ask for the date, and what is meant by it; all others measure time."""


def test_only_dates_come_from_the_wall_clock() -> None:
    asking_it = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in WALL_CLOCK
    }
    assert asking_it == set(DATES)


LIBRARY = "libfaketimeMT.so.1"

STEPS_H = (5, -7, 0)
"""From the true time."""


class WallClock:
    """Of the processes that were started with it; monotonic clocks stay as they are."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step_h(0)

    def step_h(self, hours: int) -> None:
        """Set it so many hours from what it is everywhere else."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{hours:+d}h\n")
        partial.replace(self._file)


@pytest.fixture
def wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WallClock]:
    """Rules the processes that the test starts."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed (Debian: apt-get install faketime)")
    (library,) = Path("/usr/lib").glob(f"*/faketime/{LIBRARY}")
    clock = WallClock(tmp_path / "clock")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(tmp_path / "clock"))
    monkeypatch.setenv("FAKETIME_CACHE_DURATION", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    yield clock


def keys_file(folder: Path, flops: int) -> Path:
    """A key without a quota, and one for which a request of ``flops`` is a debt of an hour."""
    quotas = {"free": {}, "poor": {"flops_per_second": flops // 3600, "burst_flops": 1}}
    keys = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **quota}
        for name, quota in quotas.items()
    ]
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": keys}))
    return path


def await_clock(server: Server, hours: int) -> None:
    """Until the server's answers bear the new date."""
    give_up_s = time.monotonic() + 60
    while True:
        date = parsedate_to_datetime(server.client.get("/livez").headers["date"])
        if abs(date.timestamp() - time.time() - hours * 3600) < 60:
            return
        assert time.monotonic() < give_up_s, f"the server never saw its clock step: {date}"
        time.sleep(0.1)


@pytest.mark.soak
def test_a_wall_clock_that_steps_by_hours_disturbs_nobody(
    small_store: SmallStore,
    tmp_path: Path,
    wall_clock: WallClock,
    png: Callable[[int], bytes],
    figure: Figure,
) -> None:
    first = small_store.artifact.manifest.stages[0]
    flops = first.block + first.head
    settings = {**settings_of(small_store.root, "small"), "KEYS_FILE": str(keys_file(tmp_path, flops))}
    poor = {"X-API-Key": "poor", "X-FLOP-Limit": str(flops)}
    patient = {"X-API-Key": "free", "X-Deadline-Ms": "30000"}
    waits_s = []
    with serving(settings) as server, asking(server.url, png(0), rate=20, headers=patient) as answers:
        assert server.client.post("/classify", content=png(1), headers=poor).status_code == 200
        indebted_s = time.monotonic()
        answers.await_more(40)
        usual_ms = max(answers.seconds) * 1000
        before = len(answers.statuses)
        for hours in STEPS_H:
            wall_clock.step_h(hours)
            await_clock(server, hours)
            answers.await_more(20)
            refused = server.client.post("/classify", content=png(1), headers=poor)
            assert refused.status_code == 429
            waits_s.append(int(refused.headers["retry-after"]) + time.monotonic() - indebted_s)
        slowest_ms = max(answers.since(before).seconds) * 1000
        total, failures = len(answers.statuses), answers.failures
    steps = ", ".join(f"{hours:+d} h" for hours in STEPS_H)
    figure(
        11,
        f"wall clock set to {steps} under load: {failures.total()} of {total} requests failed; "
        f"slowest {slowest_ms:.0f} ms, before {usual_ms:.0f} ms",
    )
    assert not failures
    assert waits_s == pytest.approx([flops / (flops // 3600)] * len(STEPS_H), abs=2)
    assert slowest_ms < 3 * usual_ms + 1000
