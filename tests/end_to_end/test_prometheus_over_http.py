"""A real Prometheus scrapes a real service under a load that provokes everything: every query has data."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from conftest import CLASSES, small_manifest, small_net
from dashboards import ROOT, alerts, all_rules, dashboard, operands, queries
from live import serving
from PIL import Image
from prometheus_process import Prometheus, watching
from redis_process import RedisProcess

from model_store.store import Store

PATIENCE_S = 40
"""Until everything has been seen at least twice, seconds; usually 6."""

SETTINGS = {
    "MODELS": '["small", "other"]',
    "EXECUTOR": "torch",
    "MAX_IN_FLIGHT": "12",
    "LATENCY_OBJECTIVE_S": "0.02",  # waits of 2 ms shrink budgets
    "RECHECK_SHARE": "1",
}

ASKED: list[tuple[str, str, dict[str, str]]] = [
    ("/classify", "free", {}),
    ("/classify", "free", {"X-Model": "other", "X-FLOP-Budget": "300k"}),
    ("/classify", "free", {"X-FLOP-Limit": "1G"}),
    ("/classify", "free", {"X-Model": "other", "X-FLOP-Limit": "1G"}),
    ("/classify/stream", "free", {"X-FLOP-Limit": "1G"}),
    ("/explain", "free", {}),
    ("/v2/models/small/infer", "free", {"Inference-Header-Content-Length": "0"}),
    ("/classify", "free", {"X-FLOP-Budget": "nothing"}),  # 400
    ("/classify", "nobody", {}),  # 401
    ("/classify", "free", {"X-Model": "nobody"}),  # 404
    ("/classify", "poor", {}),  # 429 from the second on
    ("/classify", "free", {"X-Deadline-Ms": "0.01"}),  # 504
]
"""One round of requests, one after the other: route, key, headers."""

CROWD = 48
"""Requests at once: four times the room."""


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keys_file(folder: Path) -> Path:
    poor = {"flops_per_second": 1, "burst_flops": 1000}
    keys: list[dict[str, Any]] = [{"name": "free", "sha256": digest("free")}]
    keys.append({"name": "poor", "sha256": digest("poor"), **poor})
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": keys}))
    return file


async def ask_one_after_the_other(url: str, png: Callable[[int], bytes], number: int) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for position, (route, key, headers) in enumerate(ASKED):
            image = png((13 * number + position) % 64)
            await client.post(route, content=image, headers={"X-API-Key": key, **headers})


async def leave(url: str, png: Callable[[int], bytes]) -> None:
    """Send 64 images and be gone before they can have been decoded."""
    images = [("image", (f"{number}.png", png(number), "image/png")) for number in range(64)]
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.005):
                await client.post("/classify", files=images, headers={"X-API-Key": "free"})


async def crowd(url: str, png: Callable[[int], bytes]) -> None:
    """More at once than there is room for: brownout and refusals."""
    limits = httpx.Limits(max_connections=CROWD)
    headers = {"X-API-Key": "free"}
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        asked = [client.post("/classify", content=png(i), headers=headers) for i in range(CROWD)]
        await asyncio.gather(*asked)


def keep_asking(url: str, png: Callable[[int], bytes], stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        asyncio.run(ask_one_after_the_other(url, png, number))
        asyncio.run(crowd(url, png))
        asyncio.run(leave(url, png))
        number += 1
        stop.wait(0.1)  # re-checks wait for idle moments


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, redis: RedisProcess, png: Callable[[int], bytes]
) -> Iterator[Prometheus]:
    """That watches a service with two models, keys, Redis and a load that goes on."""
    store, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("prometheus")
    Store(store).publish(*small_manifest(small_net()))
    Store(store).publish(*small_manifest(small_net(1), "other", 1, "other", CLASSES))
    files = {"MODEL_STORE": str(store), "KEYS_FILE": str(keys_file(folder)), "REDIS_URL": redis.url}
    stop = threading.Event()
    with (
        serving(SETTINGS | files) as server,
        watching(folder, server.url.removeprefix("http://")) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        load = pool.submit(keep_asking, server.url, png, stop)
        try:
            yield running
        finally:
            stop.set()
            load.result()


def without_data(prometheus: Prometheus, expressions: Iterable[str]) -> set[str]:
    """Expressions that have given nothing, or something that is no number, until patience ends."""
    waiting, deadline_s = set(expressions), time.monotonic() + PATIENCE_S
    if not torch.cuda.is_available():
        waiting = {expression for expression in waiting if "exitramp_gpu_memory_bytes" not in expression}
    while waiting and time.monotonic() < deadline_s:
        waiting = {expression for expression in waiting if not prometheus.has_data(expression)}
        time.sleep(0.2)
    return waiting


def test_the_load_provokes_everything(prometheus: Prometheus) -> None:
    """Else a query could have data and be 0 for ever."""
    codes = (200, 400, 401, 404, 429, 499, 503, 504)
    counted = [f'exitramp_requests_total{{code="{code}"}}' for code in codes]
    counted += [
        f'exitramp_rejected_total{{reason="{reason}"}}' for reason in ("overloaded", "quota_exhausted")
    ]
    counted += ["exitramp_cancelled_total", "exitramp_degraded_total", "exitramp_rechecks_total"]
    counted += [
        f'exitramp_request_seconds_count{{route="{route}"}}' for route in ("/classify/stream", "/explain")
    ]
    assert not without_data(prometheus, [f"sum(increase({metric}[1m])) > 0" for metric in counted])


@pytest.mark.parametrize("model", ["small", "other"])
def test_every_panel_of_the_dashboard_has_data(prometheus: Prometheus, model: str) -> None:
    asked = queries(model)
    empty = without_data(prometheus, asked.values())
    assert not [name for name, expression in asked.items() if expression in empty]


def test_everything_that_an_alert_compares_and_that_is_recorded_has_data(prometheus: Prometheus) -> None:
    recorded = [rule["expr"] for rule in all_rules() if "record" in rule]
    compared = [operand for rule in alerts() for operand in operands(rule["expr"])]
    assert not without_data(prometheus, [*recorded, *compared])


def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    groups = prometheus.ask("rules")["groups"]
    states = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert states == dict.fromkeys((rule.get("alert") or rule["record"] for rule in all_rules()), "ok")


def test_variables_have_values_and_annotations_are_valid(prometheus: Prometheus) -> None:
    for variable in dashboard()["templating"]["list"]:
        metric, label = re.findall(r"label_values\((.+), (\w+)\)", variable["query"]["query"])[0]
        assert prometheus.ask(f"label/{label}/values", **{"match[]": metric}), variable["name"]
    for annotation in dashboard()["annotations"]["list"]:
        prometheus.values(annotation["expr"])
    (started,) = [one for one in dashboard()["annotations"]["list"] if one["name"] == "Starts"]
    assert prometheus.values(started["expr"].replace("< 30", "< 300"))


def test_the_dashboard_can_be_drawn_and_says_what_is_empty(prometheus: Prometheus, tmp_path: Path) -> None:
    picture = tmp_path / "dashboard.png"
    command = [sys.executable, "-m", "deploy.grafana.render", "--out", str(picture)]
    command += ["--prometheus", prometheus.url, "--minutes", "1"]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT)
    assert drawn.stdout in {"", "no data: GPU memory\n"}
    with Image.open(picture) as image:
        assert image.width > 800 and len(image.convert("RGB").getcolors(2**24) or ()) > 50
