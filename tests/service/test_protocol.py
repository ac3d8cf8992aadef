"""Connections that stall, drip or send endless headers are closed in time; honest ones are not touched."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from guarded import PATIENCE_S, Client, Hasty, echo_length, problem

from service.protocol import GuardedProtocol

POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        echo_length,
        http=Hasty,
        ws="none",
        loop=request.param,
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_a_connection_on_which_nothing_is_asked_is_closed_without_an_answer(port: int) -> None:
    with Client(port) as client:
        received, age_s = client.rest()
    assert received == b"" and 0.3 < age_s < 3


STALLS = {  # sent at once, and then in pieces of so many bytes; 1000 bytes per second are the least
    "a dripped header": (b"", GET[:-2] + b"x" * 500, 1),
    "a half-sent body": (POST + b"content-length: 100\r\n\r\n" + b"x" * 50, b"", 1),
    "a dripped body": (POST + b"content-length: 1000\r\n\r\n", b"x" * 500, 1),
    "a body that stalls after a burst": (POST + b"content-length: 99999\r\n\r\n", b"x" * 50_000, 50_000),
}


@pytest.mark.parametrize("name", STALLS)
def test_a_request_that_stalls_is_closed_with_408(port: int, name: str) -> None:
    with Client(port) as client:
        head, pieces, size = STALLS[name]
        client.send(head)
        client.drip(pieces, size)
        received, age_s = client.rest()
    assert problem(received) == (408, "request_timeout") and 0.3 < age_s < 3


def test_a_slow_but_steady_body_works_for_much_longer_than_the_timeout(port: int) -> None:
    with Client(port) as client:
        client.send(POST + b"content-length: 10000\r\n\r\n")
        for _ in range(10):
            time.sleep(0.1)
            client.send(b"x" * 1000)  # twice the timeout in all, at up to 10 times the rate
        assert client.answer() == (200, b"10000")


def test_an_application_that_is_slow_to_ask_for_the_body_is_not_the_clients_fault(port: int) -> None:
    with Client(port) as client:
        client.send(b"POST /slow HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert client.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        client.send(b"abc")
        assert client.answer() == (200, b"3")
    with Client(port) as client:  # beyond 64 KiB uvicorn stops reading until the application asks
        client.send(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n" + bytes(20_000_000))
        assert client.answer() == (200, b"20000000")


def test_a_body_that_nobody_wants_any_more_ends_with_the_timeout(port: int) -> None:
    with Client(port) as client:
        client.send(b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        assert client.answer() == (200, b"0")
        client.drip(b"x" * 90_000, 500)  # 3.6 s at 25 times the rate
        received, age_s = client.rest()
    assert received == b"" and age_s < 3


def test_a_header_of_ten_megabytes_is_refused_with_431_before_it_is_complete(port: int) -> None:
    with Client(port) as client:
        with suppress(OSError):  # the server may hang up while we are sending
            client.send(b"GET / HTTP/1.1\r\nhost: x\r\nbig: " + b"x" * 10_000_000)
        received, age_s = client.rest()
    assert (not received or problem(received) == (431, "headers_too_large")) and age_s < 3


def test_after_a_refusal_input_is_thrown_away_for_a_while_and_then_the_connection_is_cut(port: int) -> None:
    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: x\r\nbig: " + b"x" * 20_000)
        received, refused_s = client.rest()
        assert problem(received) == (431, "headers_too_large")
        with suppress(OSError):
            while time.monotonic() < client.opened_s + PATIENCE_S:
                client.send(b"x")
                time.sleep(0.02)
        assert 0.3 < time.monotonic() - client.opened_s - refused_s < 3


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
def test_a_header_is_accepted_up_to_its_last_byte(port: int, excess: int, status: int) -> None:
    head = POST + b"content-length: 30000\r\nbig: "
    filler = b"x" * (GuardedProtocol.max_header_bytes - len(head) - len(b"\r\n\r\n") + excess)
    with Client(port) as client:
        client.send(head + filler + b"\r\n\r\n" + b"y" * 30_000)  # the body does not count
        assert client.answer()[0] == status


@pytest.mark.parametrize(("fields", "status"), [(64, 200), (65, 431)])
def test_sixty_four_header_fields_are_the_most(port: int, fields: int, status: int) -> None:
    with Client(port) as client:
        client.send(GET[:-2] + b"".join(b"x-%d: 1\r\n" % index for index in range(fields - 1)) + b"\r\n")
        assert client.answer()[0] == status


def test_trailers_without_end_are_refused_too(port: int) -> None:
    with Client(port) as client:
        client.send(POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n")
        client.send(b"x: " + b"y" * 20_000)
        time.sleep(0.1)
        client.send(b"y" * 20_000)
        assert problem(client.rest()[0]) == (431, "headers_too_large")


@pytest.mark.parametrize("size", [20, 1000])
def test_a_trailer_is_no_header_and_an_upgrade_changes_nothing(port: int, size: int) -> None:
    chunks = b"3\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n"
    upgrade = b"connection: upgrade\r\nupgrade: h2c\r\n"
    request = POST.replace(b"/ ", b"/names ") + upgrade + b"transfer-encoding: chunked\r\n\r\n" + chunks
    with Client(port) as client:
        for _ in range(2):
            client.drip(request, size)
            assert client.answer() == (200, b"host,connection,transfer-encoding 3")
            client.send(GET)
            assert client.answer() == (200, b"0")


def test_what_is_not_http_is_answered_with_400(port: int) -> None:
    with Client(port) as client:
        client.send(b"HELLO\r\n\r\n")
        assert problem(client.rest()[0]) == (400, "invalid_request")


def test_requests_on_one_connection_and_long_pauses_between_them_work(port: int) -> None:
    with Client(port) as client:
        for pause_s in (0.0, 0.8, 0.0):  # 0.8: beyond the timeout, within uvicorn's keep-alive
            time.sleep(pause_s)
            client.send(GET)
            assert client.answer() == (200, b"0")
            client.send(POST + b"content-length: 2\r\n\r\nab")
            assert client.answer() == (200, b"2")


def test_a_lone_line_end_on_a_kept_connection_does_not_hold_it_open(port: int) -> None:
    with Client(port) as client:
        client.send(GET)
        assert client.answer() == (200, b"0")
        client.send(b"\r\n")  # cancels uvicorn's keep-alive timeout
        assert client.rest()[1] < 3


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    bodies = [b"x" * size for size in (1, 20_000, 3)]
    with Client(port) as client:
        client.send(b"".join(POST + b"content-length: %d\r\n\r\n%b" % (len(body), body) for body in bodies))
        assert [client.answer() for _ in bodies] == [(200, b"1"), (200, b"20000"), (200, b"3")]


def test_a_pipelined_header_that_stalls_does_not_cost_the_answer_before_it(port: int) -> None:
    with Client(port) as client:
        client.send(GET.replace(b"/ ", b"/slow ", 1) + GET[:10])  # answered after the deadline of the second
        assert client.answer() == (200, b"0")
        assert client.rest()[1] < 3


def test_the_limits_are_those_of_the_documentation() -> None:
    limits = GuardedProtocol
    assert (limits.receive_timeout_s, limits.max_header_bytes, limits.max_header_fields) == (5, 16 * 1024, 64)


def test_below_v2_a_request_that_stalls_is_told_in_that_protocol(port: int) -> None:
    with Client(port) as client:
        client.send(b"POST /v2/models/x/infer?a=b HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx")
        received, _ = client.rest()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split()[1] == b"408" and b"content-type: application/json" in head
    assert set(json.loads(body)) == {"error", "code"}
