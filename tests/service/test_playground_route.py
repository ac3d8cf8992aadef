"""The playground's files as they are served; the page itself is tested in a browser, see end_to_end."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from importlib.resources import files

import httpx
import pytest

from service.app import create_app
from service.settings import Settings

PAGES = files("service") / "playground"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(max_body_bytes=54321))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as asking:
        yield asking


def names() -> list[str]:
    folder = PAGES / "samples"
    own = [entry.name for entry in PAGES.iterdir() if entry.is_file()]
    return own + [f"samples/{entry.name}" for entry in folder.iterdir()]


async def test_the_page_is_there_before_any_model_is_and_may_run_nothing_but_its_own(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/")
    assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in str(policy) and "http" not in str(policy)
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"


async def test_every_file_has_its_type_and_what_the_page_asks_for_exists(client: httpx.AsyncClient) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css", ".png": "image/png", ".svg": "image/svg+xml"}
    for name in names():
        answer = await client.get(f"/playground/{name}")
        assert answer.status_code == 200, name
        wanted = kinds.get(name[name.rfind(".") :])
        assert wanted is None or answer.headers["content-type"].startswith(wanted), name
        for module in re.findall(r'from "\./(.*)";', answer.text) if name.endswith(".js") else ():
            assert module in names(), f"{name} imports {module}"
    page = (await client.get("/")).text
    for address in re.findall(r'(?:src|href)="(playground/.*?)"', page):
        assert (await client.get(f"/{address}")).status_code == 200, address
    for entry in (await client.get("/playground/samples/samples.json")).json():
        assert f"samples/{entry['file']}" in names()


async def test_who_has_a_file_already_is_told_so_until_it_changes(client: httpx.AsyncClient) -> None:
    for path in ("/", "/playground/main.js"):
        first = await client.get(path)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for known in (tag, f"W/{tag}", f'"other", {tag}'):
            again = await client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == tag
        assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
        head = await client.head(path)
        assert head.status_code == 200 and head.headers["content-length"] == str(len(first.content))


async def test_nothing_else_is_served(client: httpx.AsyncClient) -> None:
    for name in ("nothing.js", "", "../settings.py", "%2e%2e/settings.py", "samples", "samples/"):
        answer = await client.get(f"/playground/{name}")
        assert answer.status_code == 404 and answer.json()["code"] == "not_found", name
    refused = await client.post("/")
    assert refused.status_code == 405 and set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_the_page_is_told_the_limit_of_this_server(client: httpx.AsyncClient) -> None:
    assert (await client.get("/playground/limits.json")).json() == {"max_body_bytes": 54321}


async def test_it_is_counted_by_its_routes(client: httpx.AsyncClient) -> None:
    await client.get("/")
    await client.get("/playground/main.js")
    await client.get("/playground/nothing.js")
    counted = (await client.get("/metrics")).text
    files_route = 'route="/playground/{name:path}"'
    for labels in ('code="200",route="/"', f'code="200",{files_route}', f'code="404",{files_route}'):
        assert f"exitramp_requests_total{{{labels}}} 1.0" in counted


def test_the_page_asks_no_other_server_and_makes_no_markup_of_text() -> None:
    for name in names():
        if not name.endswith((".png", ".json")):
            source = (PAGES / name).read_text()
            assert len(source.splitlines()) <= 250, name
            assert max(map(len, source.splitlines())) <= 110, name
            foreign = re.findall(
                r"(?:https?:)?//[a-z][\w.-]+\.[a-z]{2,}", source.replace("http://www.w3.org/2000/svg", "")
            )
            assert not foreign, name
            assert not re.findall(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", source
            ), name


def test_samples_are_small_pictures_of_both_tasks() -> None:
    entries = json.loads((PAGES / "samples" / "samples.json").read_text())
    for task in ("cifar10", "cifar100"):
        assert 8 <= sum(entry["task"] == task for entry in entries) <= 12
    for entry in entries:
        content = (PAGES / "samples" / entry["file"]).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) < 4096


async def test_the_interactive_documentation_comes_from_here_too(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc"):
        page = await client.get(path)
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert page.status_code == 200 and len(loaded) >= 2 and "://" not in page.text
        assert {(await client.get(name)).status_code for name in loaded} == {200}
