"""Clients that leave while their images are queued: nothing is computed for them."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from conftest import SmallStore
from figures import Figure
from live import Server, serving

LEAVING = 50
REQUESTS, IMAGES = 6, 64
"""What keeps the device busy: so many requests of so many images, queued before anybody comes to leave."""

PATIENCE_S = 30.0


@pytest.fixture(
    scope="module",
    params=["1", pytest.param("2", marks=pytest.mark.soak)],
    ids=["one process", "two HTTP processes"],
)
def server(request: pytest.FixtureRequest, small_store: SmallStore) -> Iterator[Server]:
    # A batch of one image a launch, in eager torch: 64 images keep the device busy for long.
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    few = {"MAX_BATCH": "1", "RECHECK_SHARE": "0", "HTTP_WORKERS": request.param}
    with serving({**settings, **few}) as running:
        yield running


def total(server: Server, name: str) -> float:
    """The sum of a metric, over all its labels unless ``name`` has some."""
    found = re.findall(rf"^exitramp_{name}(?:{{[^}}]*}})? (\S+)$", server.client.get("/metrics").text, re.M)
    return sum(map(float, found))


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.005)


def executed(server: Server) -> float:
    """Images in launches of first spans."""
    return total(server, r'batch_size_sum{model="small",stage="1(?:-\d+)?"}')


def connected(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((str(address.hostname), address.port or 80))


def test_nothing_is_computed_for_clients_that_vanish_while_queued(
    server: Server, png: Callable[[int], bytes], figure: Figure, request: pytest.FixtureRequest
) -> None:
    files = [("image", (f"{i}.png", png(i), "image/png")) for i in range(IMAGES)]
    body = png(99)
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    cancelled, launched = total(server, "cancelled_total"), executed(server)
    with ThreadPoolExecutor(REQUESTS) as pool:
        busy = [pool.submit(server.client.post, "/classify", files=files) for _ in range(REQUESTS)]
        wait_for(lambda: total(server, "in_flight") == REQUESTS)
        wait_for(lambda: total(server, "queue_depth") > (REQUESTS - 1) * IMAGES)
        for _ in range(LEAVING):
            with connected(server) as connection:
                connection.sendall(head + body)
        wait_for(lambda: total(server, "cancelled_total") >= cancelled + LEAVING)
        assert not all(answer.done() for answer in busy), "they left a device that was idle: no test"
        statuses = [answer.result().status_code for answer in busy]
    counted = total(server, "cancelled_total") - cancelled
    computed = executed(server) - launched - REQUESTS * IMAGES
    told = f"{computed:g} executed of {LEAVING} that left; cancelled_total +{counted:g}"
    figure(6, f"{told}, {request.node.callspec.id}")
    assert statuses == [200] * REQUESTS
    assert (computed, counted) == (0, LEAVING)
    assert total(server, "queue_depth") == 0 and total(server, "in_flight") == 0


def test_a_client_that_leaves_while_it_sends_is_cancelled_and_no_error(server: Server) -> None:
    cancelled = total(server, "cancelled_total")
    with connected(server) as connection:
        connection.sendall(b"POST /explain HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
        wait_for(lambda: total(server, "in_flight") > 0)
    wait_for(lambda: total(server, "cancelled_total") > cancelled)
    assert total(server, "cancelled_total") == cancelled + 1
    assert total(server, "in_flight") == 0
    assert total(server, 'requests_total{code="500",route="/explain"}') == 0
