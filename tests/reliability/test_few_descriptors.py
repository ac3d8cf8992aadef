"""More clients than the server may have descriptors: who is in is served, and those who come get in later."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from conftest import SmallStore
from figures import Figure
from live import Server, serving
from open_inference import ADMIN, settings_of
from processes import cpu_ticks, workers
from steady import asking

from service.protocol import KEPT_DESCRIPTORS

SPARE = KEPT_DESCRIPTORS
"""Descriptors beyond those that each process has at rest, which are as many as clients may have."""

CLIENTS = 400

MEASURED_S = 2.0
"""In which the server's processor time is counted; clients that only connect are sent away after 5 s."""

PATIENCE_S = 60

KEPT_OPEN = httpx.Limits(keepalive_expiry=None)
"""For a client that is in before the crowd comes, and stays."""


@contextmanager
def few_descriptors(pids: list[int]) -> Iterator[None]:
    """Processes that may open only ``SPARE`` more, until the end of the block."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in before.items():
        taken = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken + SPARE, hard))
    yield
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@contextmanager
def crowd(server: Server) -> Iterator[list[socket.socket]]:
    """Clients who connect and say nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        sockets = []
        for _ in range(CLIENTS):
            sockets.append(stack.enter_context(socket.create_connection((host, int(port)), PATIENCE_S)))
            sockets[-1].setblocking(False)
        yield sockets


def is_sent_away(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def spent_s(pids: list[int], seconds: float) -> float:
    """Processor time of processes in the next ``seconds``."""
    before = sum(map(cpu_ticks, pids))
    time.sleep(seconds)
    return (sum(map(cpu_ticks, pids)) - before) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_out_of_descriptors_serves_those_who_are_in_and_recovers(
    processes: int, small_store: SmallStore, png: Callable[[int], bytes], figure: Figure
) -> None:
    settings = settings_of(small_store.root, "small", HTTP_WORKERS=str(processes))
    with (
        serving(settings) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S, limits=KEPT_OPEN) as client,
        asking(server.url, png(0), rate=20) as answers,
    ):
        assert client.get("/livez").status_code == 200
        pids = [server.process.pid] if processes == 1 else workers(server.process.pid)
        answers.await_more(10)
        usual_s = spent_s(pids, MEASURED_S)
        begun, said = len(answers.statuses), server.log.qsize()
        with few_descriptors(pids), crowd(server) as clients:
            busy_s = spent_s(pids, MEASURED_S)
            refused = sum(map(is_sent_away, clients))
            more_log = server.log.qsize() - said
            assert client.get("/metrics").status_code == 200
            reloaded = client.post("/v2/repository/models/small/load", headers=ADMIN)
            answers.await_more(10)
        _await_new_client(server.url)
        answers.await_more(10)
        after = answers.since(begun)
    figure(
        11,
        f"{CLIENTS} clients with {SPARE} descriptors, {processes} HTTP process(es): {refused} sent away, "
        f"{after.failures.total()} of {len(after.statuses)} requests of others failed; processor "
        f"{busy_s / MEASURED_S:.0%}, before {usual_s / MEASURED_S:.0%}; {more_log} log lines",
    )
    assert refused >= CLIENTS - processes * SPARE
    assert not after.failures
    assert reloaded.status_code == 200, reloaded.text
    assert busy_s < usual_s + 0.25 * MEASURED_S, "a busy loop would take all of a core"
    assert more_log <= 5


def _await_new_client(url: str) -> None:
    """The crowd is gone as soon as the server has noticed."""
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
                assert client.get("/readyz").status_code == 200
                return
        except httpx.TransportError:
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
