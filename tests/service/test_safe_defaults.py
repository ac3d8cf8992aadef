"""What a service that nobody has configured gives away and lets happen: nothing that it need not."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import VERSION
from service.app import create_app
from service.errors import Unauthorized
from service.http_server import configure
from service.keys import KeyRing
from service.settings import Settings

SCRIPT = "/static-offline-docs/swagger-ui-bundle.js"

PAGES = ("/", "/playground/main.js", "/docs", "/redoc", "/openapi.json", SCRIPT)

ANSWERS = ("/livez", "/readyz", "/models", "/metrics", "/nothing", "/admin/models/m/policies", "/v2/nothing")

LIBRARIES = ("fastapi", "starlette", "uvicorn", "torch", "openvino", "pillow", "pydantic")


@asynccontextmanager
async def asking(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(**settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


def test_it_listens_on_this_machine_only() -> None:
    assert Settings().host == "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/models/m/policies"),
        ("POST", "/admin/models/m/policies"),
        ("PUT", "/admin/models/m/shadow"),
        ("POST", "/v2/repository/models/m/load"),
        ("POST", "/v2/repository/models/m/unload"),
    ],
)
async def test_administration_is_off_whatever_key_is_sent(method: str, path: str) -> None:
    async with asking() as client:
        for headers in ({}, {"X-Admin-Key": ""}, {"X-Admin-Key": "admin"}):
            answer = await client.request(method, path, headers=headers, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_pages_for_people_can_be_switched_off_and_leave_no_trace() -> None:
    async with asking() as shown, asking(docs=False) as hidden:
        for path in PAGES:
            assert (await shown.get(path)).status_code == 200, path
            for method in ("GET", "POST"):
                answer = await hidden.request(method, path)
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert (await hidden.get("/livez")).status_code == 200


async def test_documentation_runs_its_own_scripts_and_cannot_be_framed() -> None:
    async with asking() as client:
        for path in ("/docs", "/redoc"):
            page = await client.get(path)
            policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert "unsafe" not in policy["script-src"] and "http" not in str(policy)


async def test_no_header_says_what_serves_and_browsers_may_not_guess_types() -> None:
    async with asking() as client:
        for path in (*PAGES, *ANSWERS):
            answer = await client.get(path)
            assert not {"server", "x-powered-by", "via"} & set(answer.headers), path
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"], path
    config = configure(lambda *_: None, Settings())  # type: ignore[arg-type, return-value]
    assert not config.server_header and config.ws == "none"


async def test_no_answer_names_a_version_but_those_whose_form_demands_ours() -> None:
    async with asking() as client:
        for path in ("/", "/docs", "/redoc", *ANSWERS):
            told = (await client.get(path)).text
            assert VERSION not in told.replace("version=0.0.4", ""), path
            assert not [name for name in LIBRARIES if f"{name}/{version(name)}" in told.lower()], path
        assert (await client.get("/v2")).json()["version"] == VERSION
        assert (await client.get("/openapi.json")).json()["info"]["version"] == VERSION
        page = (await client.get("/metrics")).text
        assert "exitramp_" in page and "python_info" not in page and platform.python_version() not in page


async def test_an_error_of_ours_says_nothing_internal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("/srv/secret/place")

    monkeypatch.setattr("service.state.Service.check_ready", fail)
    async with asking() as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert "secret" not in answer.text and "Runtime" not in answer.text and "Traceback" not in answer.text


@pytest.mark.parametrize("given", ["", "a", "wrong", "right-but-longer", "x" * 10_000, "\xff"])
async def test_an_administrators_key_is_compared_by_digest_in_constant_time(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[Any, Any]] = []

    def watched(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return bool(one == other)

    monkeypatch.setattr("hmac.compare_digest", watched)
    wanted = hashlib.sha256(b"right").hexdigest()
    async with asking(admin_key_sha256=wanted) as client:
        headers = {b"X-Admin-Key": given.encode("latin-1")}
        answer = await client.get("/admin/models/m/policies", headers=headers)
        assert answer.status_code == 401
    assert [len(one) == len(other) == 64 for one, other in compared] == [True]


@pytest.mark.parametrize("given", ["first", "last", "wrong", "x" * 10_000])
def test_every_key_is_compared_whichever_it_is(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("first", "middle", "last")}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"name": name, "sha256": one} for name, one in digests.items()]}))
    ring = KeyRing.load(path)
    compared: list[bytes] = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", watched)
    with nullcontext() if given in digests else pytest.raises(Unauthorized):
        assert ring.authenticate(given).name == given
    assert [one.hex() for one in compared] == list(digests.values())


def test_a_keys_file_that_anybody_may_write_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"keys": []}')
    for mode, warned in ((0o640, 0), (0o644, 0), (0o646, 1)):
        path.chmod(mode)
        caplog.clear()
        KeyRing.load(path)
        assert [record.message for record in caplog.records] == ["keys_file_writable_by_all"] * warned
