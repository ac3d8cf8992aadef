"""Requests that are refused, and end their connection; see ``smuggling_cases``."""

from __future__ import annotations

from typing import Final

from smuggling_pieces import (
    CHUNKED,
    CHUNKS,
    FIVE,
    GET,
    POST,
    chunk,
    chunks,
    coding,
    field,
    length,
    target,
)

REFUSED: Final[dict[str, bytes]] = {
    # RFC 9112 section 3.2: exactly one Host, and one that is a host
    "no Host": GET + b"\r\n",
    "no Host, with a body": b"POST {} HTTP/1.1\r\n" + FIVE,
    "two Hosts": GET + b"Host: x\r\nHost: y\r\n\r\n",
    "the same Host twice": GET + b"Host: x\r\nHost: x\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET /livez HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "Hosts in a list": GET + b"Host: x, y\r\n\r\n",
    "a Host with a space": GET + b"Host: x y\r\n\r\n",
    "a Host with a user": GET + b"Host: user@x\r\n\r\n",
    "a Host with a path": GET + b"Host: x/../y\r\n\r\n",
    "an absolute target in place of Host": b"GET http://x/livez HTTP/1.1\r\n\r\n",
    # names and values
    "NUL in a name": field(b"a\0b: c"),
    "NUL in a value": field(b"a: b\0c"),
    "a control character in a name": field(b"a\x01: c"),
    "a control character in a value": field(b"a: b\x01c"),
    "DEL in a value": field(b"a: b\x7fc"),
    "Latin-1 in a name": field(b"\xffa: b"),
    "an empty name": field(b": b"),
    "a space in a name": field(b"a b: c"),
    "a space before the colon": field(b"a : c"),
    "a space before the colon of a length": POST + b"Content-Length : 5\r\n\r\nhello",
    "a tab before the colon of a coding": POST + b"Transfer-Encoding\t: chunked\r\n" + CHUNKS,
    "a length, and a coding before a space": POST
    + b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\nhello",
    "no colon": field(b"abc"),
    "a folded line": field(b"a: b\r\n c"),
    "a line folded by a tab": field(b"a: b\r\n\tc"),
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n" + CHUNKS,
    "a folded length": POST + b"Content-Length:\r\n 5\r\n\r\nhello",
    "a first line that is folded": GET + b" Host: x\r\nHost: y\r\n\r\n",
    # line ends
    "LF alone": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "LF after one field": field(b"a: b\nc: d"),
    "CR in a value": field(b"a: b\rc: d"),
    "CR alone": b"GET /livez HTTP/1.1\rHost: x\r\r",
    "CR CR LF": field(b"a: b\r"),
    "LF as the end of the head": GET + b"Host: x\r\n\n",
    # lengths
    "length and coding": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "coding and length": POST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "length 0 and coding": POST + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 5\r\n" + FIVE,
    "two lengths": POST + b"Content-Length: 0\r\n" + FIVE,
    **{
        f"length {value!r}": length(value)
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
    "a length of 5,000 digits": length(b"0" * 4999 + b"5"),
    "length in Arabic digits": length(b"\xd9\xa5"),
    "length 2**64 + 5": length(b"18446744073709551621"),
    "length of 23 nines": length(b"9" * 23),
    # codings
    **{
        f"coding {value!r}": coding(value)
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
    "chunked twice": POST + CHUNKED + CHUNKED + CHUNKS,
    "chunked, then identity": POST + CHUNKED + b"Transfer-Encoding: identity\r\n" + CHUNKS,
    "identity, then chunked": POST + b"Transfer-Encoding: identity\r\n" + CHUNKED + CHUNKS,
    "chunked in HTTP/1.0": b"POST {} HTTP/1.0\r\n" + CHUNKED + CHUNKS,
    "chunked and a length in HTTP/1.0": b"POST {} HTTP/1.0\r\nContent-Length: 5\r\n" + CHUNKED + CHUNKS,
    # chunks
    **{
        f"chunk of {size!r}": chunk(size)
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
    "LF after the size of a chunk": chunks(b"5\nhello\r\n0\r\n\r\n"),
    "no line end after a chunk": chunks(b"5\r\nhello0\r\n\r\n"),
    "LF after a chunk": chunks(b"5\r\nhello\n0\r\n\r\n"),
    "CR after a chunk": chunks(b"5\r\nhello\r0\r\n\r\n"),
    "a chunk longer than its size": chunks(b"4\r\nhello\r\n0\r\n\r\n"),
    "LF after the last chunk": chunks(b"5\r\nhello\r\n0\n\n"),
    "LF after the trailers": chunks(b"5\r\nhello\r\n0\r\n\n"),
    "a last chunk of +0": chunks(b"5\r\nhello\r\n+0\r\n\r\n"),
    "a length as trailer": chunks(b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"),
    "a coding as trailer": chunks(b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a space in the name of a trailer": chunks(b"5\r\nhello\r\n0\r\na b: c\r\n\r\n"),
    "a folded trailer": chunks(b"5\r\nhello\r\n0\r\na: b\r\n c\r\n\r\n"),
    "NUL in a trailer": chunks(b"5\r\nhello\r\n0\r\na: \0\r\n\r\n"),
    # request lines
    **{
        f"target {value!r}": target(value)
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
    "CONNECT with a body": b"CONNECT /livez HTTP/1.1\r\nHost: x\r\n" + FIVE,
    "an unknown method": b"FOO /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method without end": b"G" * 70_000 + b" /livez HTTP/1.1\r\nHost: x\r\n\r\n",
}
"""Answered with 400, after which the connection ends."""
