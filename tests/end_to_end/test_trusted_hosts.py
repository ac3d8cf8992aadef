"""Requests for another host are refused, whatever they ask."""

from __future__ import annotations

import httpx
import pytest

from service.app import create_app
from service.settings import Settings


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/classify"), ("POST", "/v2/models/a/infer"), ("GET", "/models")]
)
async def test_a_host_that_is_not_trusted_is_answered_by_no_route(method: str, path: str) -> None:
    app = create_app(Settings(trusted_hosts=("good.example",)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://evil.example"
    ) as client:
        refused = await client.request(method, path)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
        assert "evil.example" in refused.text and refused.headers["x-request-id"]
        there = await client.request(method, path, headers={"Host": "good.example"})
        assert there.status_code == 503, "nothing is loaded"


@pytest.mark.parametrize(
    ("trusted", "host", "path", "status"),
    [
        ("[::1]", "[::1]:8000", "/models", 503),
        ("[::1]", "[::2]:8000", "/models", 400),
        ("*.good.example", "a.b.Good.example.:1", "/models", 503),
        ("*.good.example", "good.example", "/models", 400),
        ("good.example", "x@good.example", "/models", 400),
        ("good.example", "[good.example", "/models", 400),
        ("good.example", "10.0.0.7:8000", "/livez", 200),  # as orchestrators ask
    ],
)
async def test_trusted_hosts_are_names_addresses_and_patterns(
    trusted: str, host: str, path: str, status: int
) -> None:
    app = create_app(Settings(trusted_hosts=(trusted,)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.get(path, headers={"Host": host})).status_code == status
