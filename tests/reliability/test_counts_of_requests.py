"""What Prometheus counts is what the clients counted: every request, image and FLOP, whoever was asked."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from figures import Figure
from live import Server, serving
from offline import encoded_images
from sending import Asked, Came, send_all

from loadtest.answers import read_stream
from loadtest.metrics_page import Page, parse_page

MODEL = "cifar10-fusion"
INFER = f"/v2/models/{MODEL}/infer"
INFER_ROUTE = "/v2/models/{name}/infer"
PATIENCE_S = 10.0
"""For counts of several processes to meet."""

Tally = Counter[tuple[str, ...]]


def keys_file(folder: Path) -> Path:
    poor = {"flops_per_second": 1, "burst_flops": 1000}
    keys = [{"name": key, "sha256": hashlib.sha256(key.encode()).hexdigest()} for key in ("free", "poor")]
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": [keys[0], keys[1] | poor]}))
    return file


def kinds(image: bytes, other: bytes) -> list[tuple[int, Asked]]:
    """Kinds of requests and how many of a hundred are of each."""
    files = base64.b64encode(image).decode()
    tensor = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [files]}]}
    binary = {"Inference-Header-Content-Length": "0", "X-FLOP-Limit": "31M"}

    def classify(body: bytes | tuple[bytes, ...] = image, key: str = "free", **headers: str) -> Asked:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Asked("/classify", (), body, {"X-API-Key": key, **named})

    def with_key(path: str, body: bytes, route: str = "", **headers: str) -> Asked:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Asked(path, (), body, {"X-API-Key": "free", **named}, route)

    return [
        (15, classify()),
        (10, classify(X_FLOP_Budget="16M")),
        (10, classify(X_FLOP_Budget="25M", X_Deadline_Ms="20000")),
        (10, classify(X_FLOP_Limit="100M")),
        (5, classify((image, other, image), X_FLOP_Budget="20M")),
        (3, classify((image, b"no image", other))),
        (3, classify((b"no image", image[:60]))),  # 200, and nothing in it but errors
        (6, with_key("/classify/stream", image, X_FLOP_Limit="43M")),
        (3, with_key("/explain", image, X_FLOP_Budget="25M")),
        (5, with_key(INFER, json.dumps(tensor).encode(), INFER_ROUTE)),
        (4, Asked(INFER, (), other, {"X-API-Key": "free", **binary}, INFER_ROUTE)),
        (3, classify(X_FLOP_Budget="nothing")),  # 400
        (3, classify(key="nobody")),  # 401
        (3, classify(X_Model="nobody")),  # 404
        (2, Asked("/nowhere", route="unmatched")),  # 404
        (2, Asked("/classify", method="GET")),  # 405
        (2, classify(b"\x89PNG" + bytes(70_000))),  # 413
        (3, classify(b"no image")),  # 415
        (3, classify(image[:60])),  # 422
        (2, classify(X_FLOP_Limit="1000")),  # 422
        (1, classify(key="poor")),  # 200 once, then 429
        (1, classify(X_Deadline_Ms="0.001")),  # 504
        (1, Asked("/livez", method="GET")),
    ]


def predictions(came: Came) -> list[tuple[str, str]]:
    """Exit and FLOPs of each image that was answered."""
    route = came.asked.path
    if route == "/classify":
        entries = [entry for entry in came.json["predictions"] if "error" not in entry]
    elif route == "/classify/stream":
        entries = read_stream(came.body.decode())["predictions"]
    elif route == "/explain":
        entries = [{"exit": came.headers["X-Exit"], "flops": came.headers["X-FLOPs"]}]
    else:
        entries = [came.json["parameters"]]
    return [(str(entry["exit"]), str(entry["flops"])) for entry in entries]


def counted_by_clients(came: list[Came]) -> Tally:
    """Requests by route and status, images by exit, FLOPs, refusals."""
    tally: Tally = Counter()
    for one in came:
        tally["request", one.asked.route or one.asked.path, str(one.status)] += 1
        if one.status in (401, 429, 503):
            tally["rejected", "unauthorized" if one.status == 401 else one.json["code"]] += 1
        if one.status == 200 and one.asked.method == "POST":
            for number, flops in predictions(one):
                tally["image", number] += 1
                tally["flops",] += int(flops)
    return +tally


def counted_by_prometheus(page: Page) -> Tally:
    tally: Tally = Counter()
    for (name, labels), value in page.samples.items():
        own = dict(labels)
        if name == "exitramp_requests_total" and own["route"] not in ("/metrics", "/readyz"):
            tally["request", own["route"], own["code"]] += int(value)
        elif name == "exitramp_rejected_total":
            tally["rejected", own["reason"]] += int(value)
        elif name == "exitramp_images_total":
            tally["image", own["exit"]] += int(value)
    tally["flops",] = int(page.total("exitramp_flops_total", kind="charged"))
    return +tally


def scrape(server: Server) -> Page:
    return parse_page(server.client.get("/metrics").text)


@pytest.mark.parametrize("http_workers", [1, pytest.param(2, marks=pytest.mark.soak)])
@pytest.mark.parametrize("requests", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_every_count_is_the_clients(figure: Figure, tmp_path: Path, requests: int, http_workers: int) -> None:
    files = encoded_images()
    chance = random.Random(requests + http_workers)
    asked: list[Asked] = []
    while len(asked) < requests:
        image, other = chance.choice(files), chance.choice(files)
        asked += [one for count, one in kinds(image, other) for _ in range(count)]
    asked = chance.sample(asked, requests)
    settings = {"KEYS_FILE": str(keys_file(tmp_path)), "MAX_BODY_BYTES": "65536", "BROWNOUT": "false"}
    settings |= {"MODELS": f'["{MODEL}"]', "HTTP_WORKERS": str(http_workers)}
    with serving(settings) as server:
        before = scrape(server)
        came = send_all(server.url, asked, connections=32)
        expected, deadline_s = counted_by_clients(came), time.monotonic() + PATIENCE_S
        while counted_by_prometheus((after := scrape(server)).since(before)) != expected:
            if time.monotonic() > deadline_s:
                break
            time.sleep(0.1)
    counted, own = counted_by_prometheus(after.since(before)), after.since(before)
    waiting = [after.total(f"exitramp_{name}") for name in ("queue_depth", "in_flight", "cancelled_total")]
    codes = Counter(str(one.status) for one in came)
    differing = [key for key in expected.keys() | counted.keys() if expected[key] != counted[key]]
    images = sum(count for key, count in expected.items() if key[0] == "image")
    figure(
        15,
        f"{http_workers} HTTP process(es): {len(came)} requests {dict(sorted(codes.items()))}, {images} "
        f"images, {expected['flops',] / 1e9:.1f} GFLOPs: {len(differing)} of {len(expected)} counts differ; "
        f"afterwards waiting {waiting[0]:.0f}, in flight {waiting[1]:.0f}",
    )
    assert {key: (expected[key], counted[key]) for key in differing} == {}
    assert waiting == [0, 0, 0]
    assert own.total("exitramp_image_flops_count") == images
    assert own.total("exitramp_image_flops_sum") == expected["flops",]
    assert set(codes) >= {"200", "400", "401", "404", "405", "413", "415", "422", "429", "504"}
    assert "500" not in codes
