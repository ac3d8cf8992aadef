"""Whose requests are answered, by their Host header; plain ASGI.

Starlette's ``TrustedHostMiddleware`` would do but for its answer, which is plain text.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import InvalidRequest
from service.headers import quoted
from service.observe import REQUEST_ID
from service.problems import problem

EVERY = "*"

PROBED = frozenset(("/livez", "/readyz", "/metrics"))
"""What orchestrators and Prometheus ask by address; no browser is led astray by it."""


class TrustedHosts:
    """Refuses requests that are for another host."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """Wrap ``app``; ``hosts`` are names, addresses, ``*.example.com`` or ``*``; ports do not matter."""
        self._app, self._hosts = app, frozenset(host.lower().strip("[]") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        asked = scope["type"] == "http" and scope["path"] not in PROBED
        if asked and not self._trusts(host := _host(scope)):
            refusal = InvalidRequest(f"Host: {quoted(host)} is not served here")
            await problem(refusal, scope.get(REQUEST_ID), scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _trusts(self, host: str) -> bool:
        above = (f"*{host[at:]}" for at, character in enumerate(host) if character == ".")
        return not self._hosts.isdisjoint((EVERY, host, *above))


def _host(scope: Scope) -> str:
    """The name in the Host header, lower-case; empty where there is none or it cannot be one."""
    sent = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    try:
        return "" if "@" in sent else (urlsplit(f"//{sent}").hostname or "").removesuffix(".")
    except ValueError:  # brackets without an address of IPv6
        return ""
