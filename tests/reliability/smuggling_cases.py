"""Requests that two parsers could read in two ways, and what becomes of each: a frozen table.

A request is sent with ``CANARY`` right behind it, in the same bytes. Either everybody knows where it ends:
then it is answered, and the canary after it. Or not: then it is refused, and the connection ends with that,
for what follows could be anything. A canary that is answered after a refusal is a smuggled request.

``{}`` stands for the target of a request with a body. What it is asked with, ``hello``, is no image (415).
"""

from __future__ import annotations

from typing import Final

from smuggling_pieces import (
    CHUNKED,
    CHUNKS,
    FIVE,
    GET,
    H2C,
    POST,
    chunk,
    chunks,
    coding,
    field,
    length,
    target,
)

CANARY: Final = b"GET /canary HTTP/1.1\r\nHost: x\r\n\r\n"
"""Answered with 404 by the engine's application, whichever process has read it."""

TOO_LONG: Final[dict[str, bytes]] = {
    "a target of 17,000 bytes": target(b"/livez?" + b"a" * 17_000),
    "a target of 70,000 bytes": target(b"/livez?" + b"a" * 70_000),
    "a field of 17,000 bytes": field(b"a: " + b"b" * 17_000),
    "65 fields": field(b"\r\n".join(b"a%d: b" % i for i in range(64))),
}
"""Answered with 431, after which the connection ends."""

TAKEN: Final[dict[str, tuple[bytes, int]]] = {
    "a plain GET": (target(b"/livez"), 200),
    "a plain POST": (POST + FIVE, 415),
    "an empty Host": (GET + b"Host:\r\n\r\n", 200),
    "a Host with a port": (GET + b"Host: [::1]:8000 \r\n\r\n", 200),
    "a tab in a value": (field(b"a: b\tc"), 200),
    "Latin-1 in a value": (field(b"a: b\xffc"), 200),
    "CRLF before the request": (b"\r\n" + target(b"/livez"), 200),
    "GET with a body": (GET + b"Host: x\r\n" + FIVE, 200),
    "POST without a length": (POST + b"\r\n", 415),
    **{
        f"length {value!r}": (length(value), 415) for value in (b" 5", b"5 ", b"5\t", b"05", b"0" * 22 + b"5")
    },
    **{
        f"coding {value!r}": (coding(value), 415)
        for value in (b"chunked", b"Chunked", b"chunked ", b"\tchunked")
    },
    "a name that only looks like a coding": (POST + b"Transfer_Encoding: chunked\r\n" + FIVE, 415),
    **{
        f"chunk of {size!r}": (chunk(size), 415) for size in (b"5", b"0005", b"5;a=b", b"5;a", b'5;a="b\\"c"')
    },
    "a last chunk of 000": (chunks(b"5\r\nhello\r\n000\r\n\r\n"), 415),
    "a trailer": (chunks(b"5\r\nhello\r\n0\r\na: b\r\n\r\n"), 415),
    "Host as trailer": (chunks(b"5\r\nhello\r\n0\r\nHost: y\r\n\r\n"), 415),
    # targets
    "an absolute target": (target(b"http://x/livez"), 200),
    "an absolute target elsewhere": (target(b"http://y/livez"), 200),
    **{
        f"target {value!r}": (target(value), 404)
        for value in (
            *(
                b"*",
                b"//livez",
                b"//x/livez",
                b"/livez%0d%0aHost:%20y",
                b"/livez%00",
                b"/livez%zz",
                b"/../../etc/passwd",
            ),
            *(b"/models/../livez", b"/models/%2e%2e/livez"),
        )
    },
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a letter in percent": (target(b"/%6civez"), 200),
    "a fragment": (target(b"/livez#a"), 200),
    "a target of 8,000 bytes": (target(b"/livez?" + b"a" * 8_000), 200),
    "two spaces in the request line": (b"GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    # other protocols, which nobody speaks here: what follows is HTTP/1.1, RFC 9110 section 7.8
    "h2c": (field(H2C[:-2]), 200),
    "h2c with a body": (POST + H2C + FIVE, 415),
    "h2c with a request as its body": (
        POST + H2C + b"Content-Length: %d\r\n\r\n" % len(CANARY) + CANARY,
        415,
    ),
    "h2c with chunks": (POST + H2C + CHUNKED + CHUNKS, 415),
    "a WebSocket": (field(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"), 200),
    "Upgrade alone": (field(b"Upgrade: h2c"), 200),
    "Connection: upgrade alone": (field(b"Connection: upgrade"), 200),
    # methods and fields
    "HEAD": (b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "HEAD with a body": (b"HEAD /models HTTP/1.1\r\nHost: x\r\n" + FIVE, 405),
    "TRACE": (b"TRACE /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "DELETE in chunks": (b"DELETE {} HTTP/1.1\r\nHost: x\r\n" + CHUNKED + CHUNKS, 405),
    "PUT": (b"PUT {} HTTP/1.1\r\nHost: x\r\n" + FIVE, 405),
    "Expect with a body": (POST + b"Expect: 100-continue\r\n" + FIVE, 415),
    "Expect of something else": (POST + b"Expect: 200-ok\r\n" + FIVE, 415),
    "Expect without a body": (field(b"Expect: 100-continue"), 200),
    "Connection names the length": (POST + b"Connection: content-length\r\n" + FIVE, 415),
    "Connection names the coding": (POST + b"Connection: transfer-encoding\r\n" + CHUNKED + CHUNKS, 415),
}
"""Answered with this status; then the canary is, and the connection stays."""

LAST: Final[dict[str, tuple[bytes, int]]] = {
    "HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 for the engine": (b"GET /models HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 with a Host": (b"GET /livez HTTP/1.0\r\nHost: x\r\n\r\n", 200),
    "HTTP/1.0 that wants to stay": (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    "HTTP/1.0 with a body": (b"POST {} HTTP/1.0\r\n" + FIVE, 415),
    "HTTP/1.0 without a length": (b"POST {} HTTP/1.0\r\n\r\n", 415),
    "another protocol's 1.0": (b"GET /livez RTSP/1.0\r\nHost: x\r\n\r\n", 200),
    "Connection: close": (field(b"Connection: close"), 200),
    "Connection: close with a body": (POST + b"Connection: close\r\n" + FIVE, 415),
    "Connection: close, keep-alive": (field(b"Connection: close, keep-alive"), 200),
}
"""Answered with this status, after which the connection ends: what follows is nobody's."""

ENDLESS: Final[dict[str, tuple[bytes, int]]] = {
    "length 2**63": (length(b"9223372036854775808"), 413),
    "length of 11 MB": (length(b"11000000"), 413),
    "a chunk of 2**64 - 1": (chunk(b"f" * 16), 408),
}
"""The canary is part of a body that never ends; the connection ends with the receive deadline."""
