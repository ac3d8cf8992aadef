"""Pieces of requests, as raw bytes; ``{}`` stands for the target of a request with a body."""

from __future__ import annotations

GET = b"GET /livez HTTP/1.1\r\n"
POST = b"POST {} HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"\r\n5\r\nhello\r\n0\r\n\r\n"
FIVE = b"Content-Length: 5\r\n\r\nhello"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def field(line: bytes) -> bytes:
    return GET + b"Host: x\r\n" + line + b"\r\n\r\n"


def target(target: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def length(value: bytes) -> bytes:
    return POST + b"Content-Length: " + value + b"\r\n\r\nhello"


def coding(value: bytes) -> bytes:
    return POST + b"Transfer-Encoding: " + value + b"\r\n" + CHUNKS


def chunk(size: bytes) -> bytes:
    return POST + CHUNKED + b"\r\n" + size + b"\r\nhello\r\n0\r\n\r\n"


def chunks(body: bytes) -> bytes:
    return POST + CHUNKED + b"\r\n" + body
