"""Which heads are refused although the parser takes them; ``reliability/test_smuggling.py`` asks a server."""

from __future__ import annotations

import pytest

from service.framing import flaw

HOST = (b"host", b"example.org:8000")


@pytest.mark.parametrize(
    ("method", "version", "headers", "told"),
    [
        (b"GET", "0.9", [HOST], "HTTP/0.9"),
        (b"GET", "2.0", [HOST], "HTTP/2.0"),
        (b"CONNECT", "1.1", [HOST], "CONNECT"),
        (b"GET", "1.1", [], "0 Host fields"),
        (b"GET", "1.1", [HOST, HOST], "2 Host fields"),
        (b"GET", "1.0", [HOST, HOST], "2 Host fields"),
        (b"GET", "1.1", [(b"host", b"a b")], "'a b'"),
        (b"GET", "1.1", [(b"host", b"\xff" * 1000)], "ÿ…"),
        (b"POST", "1.1", [HOST, (b"transfer-encoding", b"gzip, chunked")], "'gzip, chunked'"),
        (b"POST", "1.1", [HOST, (b"content-length", b"0" * 101)], "Content-Length of more than 100 digits"),
        (b"POST", "1.0", [HOST, (b"transfer-encoding", b"chunked")], "HTTP/1.0"),
    ],
)
def test_the_reason_names_what_is_wrong(
    method: bytes, version: str, headers: list[tuple[bytes, bytes]], told: str
) -> None:
    reason = flaw(method, version, headers)
    assert reason is not None and told in reason and len(reason) < 200


@pytest.mark.parametrize("host", [b"", b"x", b"[::1]:80", b"xn--bcher-kva.example", b"a_b.c%20", b"x\t "])
def test_hosts_as_clients_send_them_are_taken(host: bytes) -> None:
    assert flaw(b"GET", "1.1", [(b"host", host)]) is None


def test_a_length_may_have_zeros_and_spaces_around_it() -> None:
    assert flaw(b"POST", "1.1", [HOST, (b"content-length", b" 0000000000000000005 ")]) is None


def test_http_1_0_may_do_without_a_host_and_codings_are_spelled_freely() -> None:
    assert flaw(b"GET", "1.0", []) is None
    assert flaw(b"POST", "1.1", [HOST, (b"transfer-encoding", b" Chunked\t")]) is None
