"""Clients that leave while their images are queued: nothing is computed for them."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from conftest import SmallStore
from live import Server, serving

LEAVING = 50


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    # A batch of one image a launch, in eager torch: 64 images keep the device busy for long.
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving({**settings, "MAX_BATCH": "1", "RECHECK_SHARE": "0"}) as running:
        yield running


def total(server: Server, name: str) -> float:
    """The sum of a metric, over all its labels unless ``name`` has some."""
    found = re.findall(rf"^exitramp_{name}(?:{{[^}}]*}})? (\S+)$", server.client.get("/metrics").text, re.M)
    return sum(map(float, found))


def test_nothing_is_computed_for_clients_that_vanish_while_queued(
    server: Server, png: Callable[[int], bytes]
) -> None:
    files = [("image", (f"{i}.png", png(i), "image/png")) for i in range(64)]
    statuses: list[int] = []
    busy = threading.Thread(
        target=lambda: statuses.append(server.client.post("/classify", files=files).status_code)
    )
    body = png(99)
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    address = urlsplit(server.url)
    busy.start()
    while total(server, "queue_depth") == 0 and not statuses:
        time.sleep(0.001)
    for _ in range(LEAVING):
        with socket.create_connection((str(address.hostname), address.port or 80)) as connection:
            connection.sendall(head + body)
    busy.join()
    assert statuses == [200]
    until_s = time.monotonic() + 10
    while total(server, "cancelled_total") < LEAVING and time.monotonic() < until_s:
        time.sleep(0.01)
    assert total(server, "cancelled_total") == LEAVING
    assert total(server, r'batch_size_sum{model="small",stage="1(?:-\d+)?"}') == 64  # launched first spans
    assert total(server, "queue_depth") == 0 and total(server, "in_flight") == 0


def test_a_client_that_leaves_while_it_sends_is_cancelled_and_no_error(server: Server) -> None:
    cancelled = total(server, "cancelled_total")
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 80)) as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
        while total(server, "in_flight") == 0:
            time.sleep(0.01)
    while total(server, "in_flight"):
        time.sleep(0.01)
    assert total(server, "cancelled_total") == cancelled + 1
    assert total(server, 'requests_total{code="500",route="/classify"}') == 0
