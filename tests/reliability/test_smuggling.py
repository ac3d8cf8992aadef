"""Where a request ends is clear, or nothing behind it is read: in one process and behind a front."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from conftest import SmallStore
from live import serving
from smuggling_cases import CANARY, ENDLESS, LAST, TAKEN, TOO_LONG
from smuggling_refused import REFUSED

PROBE = b"GET /probe HTTP/1.1\r\nHost: x\r\n\r\n"
TARGETS = (b"/classify", b"/explain")
"""The first is answered by the front, the second by the engine behind it."""

PIECES = 300
"""In how many a request is sent, at most; most arrive byte by byte."""

PATIENCE_S = 20.0

Answers = tuple[int | str, ...]
"""What came: statuses, ``canary`` and ``probe`` for answers to those, and ``end`` if the connection ended."""


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two HTTP processes"])
def address(request: pytest.FixtureRequest, small_store: SmallStore) -> Iterator[tuple[str, int]]:
    store = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving({**store, "HTTP_WORKERS": request.param}) as server:
        yield "127.0.0.1", int(server.url.rpartition(":")[2])


def parsed(received: bytes, to_head: bool) -> Answers:
    """The complete answers in ``received``; the first has no body if it is ``to_head``."""
    found: list[int | str] = []
    while b"\r\n\r\n" in received:
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(head[9:12])
        if status == 100:
            continue
        announced = re.search(rb"\r\ncontent-length: (\d+)", head)
        assert announced is not None, head
        length = 0 if to_head and not found else int(announced[1])
        if len(received) < length:
            break
        body, received = received[:length], received[length:]
        asked = re.search(rb"nothing is at /(canary|probe)", body)
        found.append(status if asked is None else asked[1].decode())
    return tuple(found)


def came(address: tuple[str, int], request: bytes, size: int) -> Answers:
    """Send ``request`` and the canary in pieces of ``size`` bytes; if that is answered, a probe."""
    received, data = b"", request + CANARY
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # what is refused early may be gone before all is sent
            for start in range(0, len(data), size):
                connection.sendall(data[start : start + size])
                time.sleep(0.0002 if size < len(data) else 0)
        answers: Answers = ()
        while answers[-1:] != ("probe",):
            before = answers
            try:
                piece = connection.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return (*answers, "end")
            received += piece
            answers = parsed(received, request.startswith(b"HEAD"))
            if "canary" in answers and "canary" not in before:
                connection.sendall(PROBE)
        return answers


def all_that_came(address: tuple[str, int], requests: Mapping[str, bytes]) -> dict[str, set[Answers]]:
    """By name: what came to each request, for each target, sent at once and in pieces."""
    asked = [
        (name, request.replace(b"{}", target), size)
        for name, request in requests.items()
        for target in (TARGETS if b"{}" in request else (b"",))
        for size in (2**20, -(-len(request) // PIECES))
    ]
    found: dict[str, set[Answers]] = {name: set() for name in requests}
    with ThreadPoolExecutor(16) as pool:
        for (name, _, _), answers in zip(
            asked, pool.map(lambda one: came(address, *one[1:]), asked), strict=True
        ):
            found[name].add(answers)
    return found


def test_what_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    address: tuple[str, int],
) -> None:
    assert all_that_came(address, REFUSED) == {name: {(400, "end")} for name in REFUSED}


def test_heads_over_the_limit_are_refused_and_nothing_behind_them_is_read(address: tuple[str, int]) -> None:
    assert all_that_came(address, TOO_LONG) == {name: {(431, "end")} for name in TOO_LONG}


def test_what_is_clear_is_answered_and_so_is_what_follows(address: tuple[str, int]) -> None:
    requests = {name: request for name, (request, _) in TAKEN.items()}
    expected: dict[str, set[Answers]] = {
        name: {(status, "canary", "probe")} for name, (_, status) in TAKEN.items()
    }
    assert all_that_came(address, requests) == expected


def test_behind_the_last_request_of_a_connection_nothing_is_read(address: tuple[str, int]) -> None:
    requests = {name: request for name, (request, _) in LAST.items()}
    # Bytes that arrive after the end have it reset, which may cost the client the answer.
    for name, answers in all_that_came(address, requests).items():
        assert (LAST[name][1], "end") in answers <= {(LAST[name][1], "end"), ("end",)}, name


def test_what_follows_within_a_body_is_no_request(address: tuple[str, int]) -> None:
    requests = {name: request for name, (request, _) in ENDLESS.items()}
    assert all_that_came(address, requests) == {
        name: {(status, "end")} for name, (_, status) in ENDLESS.items()
    }


def test_a_case_is_noticed_that_is_not_as_the_table_says(address: tuple[str, int]) -> None:
    smuggled = b"POST /classify HTTP/1.1\r\nHost: x\r\n\r\n" + CANARY
    assert all_that_came(address, {"smuggled": smuggled}) == {
        "smuggled": {(415, "canary", "canary", "probe")}
    }
