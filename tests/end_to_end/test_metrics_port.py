"""Metrics on a port of their own, with one process and with several."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import SmallStore
from live import Server, serving, start


@dataclass
class Apart:
    """A service and where its metrics are."""

    server: Server
    metrics: str


def settings(store: SmallStore, port: int, http_workers: str) -> dict[str, str]:
    of_model = {"MODEL_STORE": str(store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    return {**of_model, "METRICS_PORT": str(port), "HTTP_WORKERS": http_workers}


@pytest.fixture(scope="module", params=["1", "2"])
def apart(request: pytest.FixtureRequest, small_store: SmallStore) -> Iterator[Apart]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(settings(small_store, port, request.param)) as server:
        yield Apart(server, f"http://127.0.0.1:{port}")


def test_metrics_are_there_and_nothing_else_is(apart: Apart) -> None:
    page = httpx.get(f"{apart.metrics}/metrics")
    assert page.status_code == 200 and "exitramp_requests_total" in page.text
    for path in ("/", "/livez", "/models", "/classify", "/v2", "/docs"):
        answer = httpx.get(apart.metrics + path)
        assert answer.status_code == 404 and answer.json()["code" if path == "/v2" else "type"], path


def test_the_service_is_where_it_was_without_metrics(apart: Apart) -> None:
    hidden = apart.server.client.get("/metrics")
    assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")
    for path in ("/", "/livez", "/readyz", "/models"):
        assert apart.server.client.get(path).status_code == 200, path


def test_who_claims_another_host_is_not_let_in(apart: Apart) -> None:
    host = urlsplit(apart.metrics).netloc
    assert apart.server.client.get("/metrics", headers={"Host": host}).status_code == 404


def test_a_request_is_counted_there(apart: Apart) -> None:
    def classified() -> float:
        lines = httpx.get(f"{apart.metrics}/metrics").text.splitlines()
        name = 'exitramp_requests_total{code="422",route="/classify"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = classified()
    broken = apart.server.client.post("/classify", content=b"\x89PNG\r\n\x1a\n")
    assert broken.status_code == 422 and classified() == before + 1


@pytest.mark.parametrize("http_workers", ["1", "2"])
def test_a_port_that_is_taken_is_one_clear_line(small_store: SmallStore, http_workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(settings(small_store, port, http_workers))
        _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said.splitlines()[-1]
    assert "Traceback" not in said
