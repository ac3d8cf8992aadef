"""Requests that two parsers could read in two ways, and what becomes of each: a frozen table.

A request is sent with ``CANARY`` right behind it, in the same bytes. Either everybody knows where it ends:
then it is answered, and the canary after it. Or not: then it is refused, and the connection ends with that,
for what follows could be anything. A canary that is answered after a refusal is a smuggled request.

``{}`` stands for the target of a request with a body. What it is asked with, ``hello``, is no image (415).
"""

from __future__ import annotations

from typing import Final

CANARY: Final = b"GET /canary HTTP/1.1\r\nHost: x\r\n\r\n"
"""Answered with 404 by the engine's application, whichever process has read it."""

_GET = b"GET /livez HTTP/1.1\r\n"
_POST = b"POST {} HTTP/1.1\r\nHost: x\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CHUNKS = b"\r\n5\r\nhello\r\n0\r\n\r\n"
_FIVE = b"Content-Length: 5\r\n\r\nhello"
_H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def _field(line: bytes) -> bytes:
    return _GET + b"Host: x\r\n" + line + b"\r\n\r\n"


def _target(target: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def _length(value: bytes) -> bytes:
    return _POST + b"Content-Length: " + value + b"\r\n\r\nhello"


def _coding(value: bytes) -> bytes:
    return _POST + b"Transfer-Encoding: " + value + b"\r\n" + _CHUNKS


def _chunk(size: bytes) -> bytes:
    return _POST + _CHUNKED + b"\r\n" + size + b"\r\nhello\r\n0\r\n\r\n"


def _chunks(body: bytes) -> bytes:
    return _POST + _CHUNKED + b"\r\n" + body


REFUSED: Final[dict[str, bytes]] = {
    # RFC 9112 section 3.2: exactly one Host, and one that is a host
    "no Host": _GET + b"\r\n",
    "no Host, with a body": b"POST {} HTTP/1.1\r\n" + _FIVE,
    "two Hosts": _GET + b"Host: x\r\nHost: y\r\n\r\n",
    "the same Host twice": _GET + b"Host: x\r\nHost: x\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET /livez HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "Hosts in a list": _GET + b"Host: x, y\r\n\r\n",
    "a Host with a space": _GET + b"Host: x y\r\n\r\n",
    "a Host with a user": _GET + b"Host: user@x\r\n\r\n",
    "a Host with a path": _GET + b"Host: x/../y\r\n\r\n",
    "an absolute target in place of Host": b"GET http://x/livez HTTP/1.1\r\n\r\n",
    # names and values
    "NUL in a name": _field(b"a\0b: c"),
    "NUL in a value": _field(b"a: b\0c"),
    "a control character in a name": _field(b"a\x01: c"),
    "a control character in a value": _field(b"a: b\x01c"),
    "DEL in a value": _field(b"a: b\x7fc"),
    "Latin-1 in a name": _field(b"\xffa: b"),
    "an empty name": _field(b": b"),
    "a space in a name": _field(b"a b: c"),
    "a space before the colon": _field(b"a : c"),
    "a space before the colon of a length": _POST + b"Content-Length : 5\r\n\r\nhello",
    "a tab before the colon of a coding": _POST + b"Transfer-Encoding\t: chunked\r\n" + _CHUNKS,
    "a length, and a coding before a space": _POST
    + b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\nhello",
    "no colon": _field(b"abc"),
    "a folded line": _field(b"a: b\r\n c"),
    "a line folded by a tab": _field(b"a: b\r\n\tc"),
    "a folded coding": _POST + b"Transfer-Encoding:\r\n chunked\r\n" + _CHUNKS,
    "a folded length": _POST + b"Content-Length:\r\n 5\r\n\r\nhello",
    "a first line that is folded": _GET + b" Host: x\r\nHost: y\r\n\r\n",
    # line ends
    "LF alone": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "LF after one field": _field(b"a: b\nc: d"),
    "CR in a value": _field(b"a: b\rc: d"),
    "CR alone": b"GET /livez HTTP/1.1\rHost: x\r\r",
    "CR CR LF": _field(b"a: b\r"),
    "LF as the end of the head": _GET + b"Host: x\r\n\n",
    # lengths
    "length and coding": _POST + b"Content-Length: 5\r\n" + _CHUNKED + b"\r\n0\r\n\r\n",
    "coding and length": _POST + _CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "length 0 and coding": _POST + b"Content-Length: 0\r\n" + _CHUNKED + b"\r\n0\r\n\r\n",
    "the same length twice": _POST + b"Content-Length: 5\r\n" + _FIVE,
    "two lengths": _POST + b"Content-Length: 0\r\n" + _FIVE,
    **{
        f"length {value!r}": _length(value)
        for value in (
            b"+5",
            b"-5",
            b"5,5",
            b"5, 5",
            b"0x5",
            b"5.0",
            b"5e0",
            b"",
            b"5 5",
            b"5;a",
            b"'5'",
            b"_5",
            b"1_0",
        )
    },
    "length in Arabic digits": _length(b"\xd9\xa5"),
    "length 2**64 + 5": _length(b"18446744073709551621"),
    "length of 23 nines": _length(b"9" * 23),
    # codings
    **{
        f"coding {value!r}": _coding(value)
        for value in (
            *(
                b"chunked, chunked",
                b"chunked,chunked",
                b"xchunked",
                b"chunkedx",
                b"identity",
                b"identity, chunked",
            ),
            *(
                b"chunked, identity",
                b"gzip, chunked",
                b"gzip",
                b"",
                b"chunked;a=b",
                b"\x0bchunked",
                b'"chunked"',
            ),
            *(b"chunked,", b",chunked", b"chunked\0", b"chunked\xa0"),
        )
    },
    "chunked twice": _POST + _CHUNKED + _CHUNKED + _CHUNKS,
    "chunked, then identity": _POST + _CHUNKED + b"Transfer-Encoding: identity\r\n" + _CHUNKS,
    "identity, then chunked": _POST + b"Transfer-Encoding: identity\r\n" + _CHUNKED + _CHUNKS,
    "chunked in HTTP/1.0": b"POST {} HTTP/1.0\r\n" + _CHUNKED + _CHUNKS,
    "chunked and a length in HTTP/1.0": b"POST {} HTTP/1.0\r\nContent-Length: 5\r\n" + _CHUNKED + _CHUNKS,
    # chunks
    **{
        f"chunk of {size!r}": _chunk(size)
        for size in (
            *(
                b"+5",
                b"-5",
                b"0x5",
                b"5 ",
                b" 5",
                b"5\t",
                b"5 ;a=b",
                b"5;",
                b"5;a\0b",
                b"5;a\x01b",
                b'5;a="b',
                b"5;a\nb",
            ),
            *(b"", b"g", b"5_0", b"5,5", b"f" * 17, b"10000000000000005"),
        )
    },
    "LF after the size of a chunk": _chunks(b"5\nhello\r\n0\r\n\r\n"),
    "no line end after a chunk": _chunks(b"5\r\nhello0\r\n\r\n"),
    "LF after a chunk": _chunks(b"5\r\nhello\n0\r\n\r\n"),
    "CR after a chunk": _chunks(b"5\r\nhello\r0\r\n\r\n"),
    "a chunk longer than its size": _chunks(b"4\r\nhello\r\n0\r\n\r\n"),
    "LF after the last chunk": _chunks(b"5\r\nhello\r\n0\n\n"),
    "LF after the trailers": _chunks(b"5\r\nhello\r\n0\r\n\n"),
    "a last chunk of +0": _chunks(b"5\r\nhello\r\n+0\r\n\r\n"),
    "a length as trailer": _chunks(b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"),
    "a coding as trailer": _chunks(b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a space in the name of a trailer": _chunks(b"5\r\nhello\r\n0\r\na b: c\r\n\r\n"),
    "a folded trailer": _chunks(b"5\r\nhello\r\n0\r\na: b\r\n c\r\n\r\n"),
    "NUL in a trailer": _chunks(b"5\r\nhello\r\n0\r\na: \0\r\n\r\n"),
    # request lines
    **{
        f"target {value!r}": _target(value)
        for value in (
            *(
                b"x:80",
                b"livez",
                b"",
                b"/livez a",
                b"/livez\0",
                b"/liv\xffez",
                b"/livez?\xc3\xbc",
                b"/livez\ra",
            ),
            *(b"http://x", b"http://x?a"),
        )
    },
    "a tab before the target": b"GET\t/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab behind the target": b"GET /livez\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "a space before the method": b" GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space behind the version": b"GET /livez HTTP/1.1 \r\nHost: x\r\n\r\n",
    "no version": b"GET /livez\r\n",
    **{
        f"version {value!r}": b"GET /livez " + value + b"\r\nHost: x\r\n\r\n"
        for value in (
            b"HTTP/0.9",
            b"HTTP/1.2",
            b"HTTP/2.0",
            b"HTTP/11",
            b"HTTP/1.10",
            b"http/1.1",
            b"HTTP/1,1",
        )
    },
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "the beginning of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    "CONNECT with a path": b"CONNECT /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT with a body": b"CONNECT /livez HTTP/1.1\r\nHost: x\r\n" + _FIVE,
    "an unknown method": b"FOO /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method without end": b"G" * 70_000 + b" /livez HTTP/1.1\r\nHost: x\r\n\r\n",
}
"""Answered with 400, after which the connection ends."""

TOO_LONG: Final[dict[str, bytes]] = {
    "a target of 17,000 bytes": _target(b"/livez?" + b"a" * 17_000),
    "a target of 70,000 bytes": _target(b"/livez?" + b"a" * 70_000),
    "a field of 17,000 bytes": _field(b"a: " + b"b" * 17_000),
    "65 fields": _field(b"\r\n".join(b"a%d: b" % i for i in range(64))),
}
"""Answered with 431, after which the connection ends."""

TAKEN: Final[dict[str, tuple[bytes, int]]] = {
    "a plain GET": (_target(b"/livez"), 200),
    "a plain POST": (_POST + _FIVE, 415),
    "an empty Host": (_GET + b"Host:\r\n\r\n", 200),
    "a Host with a port": (_GET + b"Host: [::1]:8000 \r\n\r\n", 200),
    "a tab in a value": (_field(b"a: b\tc"), 200),
    "Latin-1 in a value": (_field(b"a: b\xffc"), 200),
    "CRLF before the request": (b"\r\n" + _target(b"/livez"), 200),
    "GET with a body": (_GET + b"Host: x\r\n" + _FIVE, 200),
    "POST without a length": (_POST + b"\r\n", 415),
    **{
        f"length {value!r}": (_length(value), 415)
        for value in (b" 5", b"5 ", b"5\t", b"05", b"0" * 22 + b"5")
    },
    **{
        f"coding {value!r}": (_coding(value), 415)
        for value in (b"chunked", b"Chunked", b"chunked ", b"\tchunked")
    },
    "a name that only looks like a coding": (_POST + b"Transfer_Encoding: chunked\r\n" + _FIVE, 415),
    **{
        f"chunk of {size!r}": (_chunk(size), 415)
        for size in (b"5", b"0005", b"5;a=b", b"5;a", b'5;a="b\\"c"')
    },
    "a last chunk of 000": (_chunks(b"5\r\nhello\r\n000\r\n\r\n"), 415),
    "a trailer": (_chunks(b"5\r\nhello\r\n0\r\na: b\r\n\r\n"), 415),
    "Host as trailer": (_chunks(b"5\r\nhello\r\n0\r\nHost: y\r\n\r\n"), 415),
    # targets
    "an absolute target": (_target(b"http://x/livez"), 200),
    "an absolute target elsewhere": (_target(b"http://y/livez"), 200),
    **{
        f"target {value!r}": (_target(value), 404)
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
    "a letter in percent": (_target(b"/%6civez"), 200),
    "a fragment": (_target(b"/livez#a"), 200),
    "a target of 8,000 bytes": (_target(b"/livez?" + b"a" * 8_000), 200),
    "two spaces in the request line": (b"GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    # other protocols, which nobody speaks here: what follows is HTTP/1.1, RFC 9110 section 7.8
    "h2c": (_field(_H2C[:-2]), 200),
    "h2c with a body": (_POST + _H2C + _FIVE, 415),
    "h2c with a request as its body": (
        _POST + _H2C + b"Content-Length: %d\r\n\r\n" % len(CANARY) + CANARY,
        415,
    ),
    "h2c with chunks": (_POST + _H2C + _CHUNKED + _CHUNKS, 415),
    "a WebSocket": (_field(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"), 200),
    "Upgrade alone": (_field(b"Upgrade: h2c"), 200),
    "Connection: upgrade alone": (_field(b"Connection: upgrade"), 200),
    # methods and fields
    "HEAD": (b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "HEAD with a body": (b"HEAD /models HTTP/1.1\r\nHost: x\r\n" + _FIVE, 405),
    "TRACE": (b"TRACE /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "DELETE in chunks": (b"DELETE {} HTTP/1.1\r\nHost: x\r\n" + _CHUNKED + _CHUNKS, 405),
    "PUT": (b"PUT {} HTTP/1.1\r\nHost: x\r\n" + _FIVE, 405),
    "Expect with a body": (_POST + b"Expect: 100-continue\r\n" + _FIVE, 415),
    "Expect of something else": (_POST + b"Expect: 200-ok\r\n" + _FIVE, 415),
    "Expect without a body": (_field(b"Expect: 100-continue"), 200),
    "Connection names the length": (_POST + b"Connection: content-length\r\n" + _FIVE, 415),
    "Connection names the coding": (_POST + b"Connection: transfer-encoding\r\n" + _CHUNKED + _CHUNKS, 415),
}
"""Answered with this status; then the canary is, and the connection stays."""

LAST: Final[dict[str, tuple[bytes, int]]] = {
    "HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 for the engine": (b"GET /models HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 with a Host": (b"GET /livez HTTP/1.0\r\nHost: x\r\n\r\n", 200),
    "HTTP/1.0 that wants to stay": (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    "HTTP/1.0 with a body": (b"POST {} HTTP/1.0\r\n" + _FIVE, 415),
    "HTTP/1.0 without a length": (b"POST {} HTTP/1.0\r\n\r\n", 415),
    "another protocol's 1.0": (b"GET /livez RTSP/1.0\r\nHost: x\r\n\r\n", 200),
    "Connection: close": (_field(b"Connection: close"), 200),
    "Connection: close with a body": (_POST + b"Connection: close\r\n" + _FIVE, 415),
    "Connection: close, keep-alive": (_field(b"Connection: close, keep-alive"), 200),
}
"""Answered with this status, after which the connection ends: what follows is nobody's."""

ENDLESS: Final[dict[str, tuple[bytes, int]]] = {
    "length 2**63": (_length(b"9223372036854775808"), 413),
    "length of 11 MB": (_length(b"11000000"), 413),
    "a chunk of 2**64 - 1": (_chunk(b"f" * 16), 408),
}
"""The canary is part of a body that never ends; the connection ends with the receive deadline."""
