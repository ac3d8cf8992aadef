"""Heads of requests that the parser lets pass, and that two readers could read differently."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from service.headers import quoted

VERSIONS: Final = ("1.1", "1.0")
"""Of HTTP, as the request line has them. The parser takes 0.9 and 2.0 for versions, too."""

MAX_DIGITS: Final = 100
"""Of a Content-Length; the parser takes any number of zeros before it, and ``int`` does not."""

_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*[ \t]*")


def flaw(method: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Why a request that the parser has accepted is to be refused, or ``None``.

    Args:
        method: Of the request.
        version: Of HTTP, such as ``1.1``.
        headers: Lower-case names and values in the order sent.

    Source: RFC 9112 sections 2.3, 3.2, 6.1; RFC 9110 sections 7.2, 9.3.6.
    """
    if version not in VERSIONS:
        return f"HTTP/{version} is not spoken here; HTTP/1.1 and HTTP/1.0 are"
    if method == b"CONNECT":  # its body would be read as the next request
        return "CONNECT is for proxies; this is none"
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                return f"Host: {quoted(value.decode('latin-1'))} is no host and port"
        elif name == b"content-length" and len(value.strip(b" \t")) > MAX_DIGITS:
            return f"a Content-Length of more than {MAX_DIGITS} digits"
        elif name == b"transfer-encoding":
            value = value.strip(b" \t")
            if value.lower() != b"chunked" or version == "1.0":
                shown = quoted(value.decode("latin-1"))
                return f"Transfer-Encoding: {shown} in HTTP/{version}; only chunked in HTTP/1.1 is accepted"
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return f"{hosts} Host fields; a request of HTTP/1.1 has one"
    return None
