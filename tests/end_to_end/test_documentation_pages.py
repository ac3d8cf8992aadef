"""/docs and /redoc in a browser, which holds them to their Content-Security-Policy."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from live import Server
from playwright.sync_api import Browser, expect

pytest_plugins = ["playground_fixtures"]


@pytest.mark.parametrize(("path", "drawn"), [("/docs", ".opblock"), ("/redoc", ".menu-content")])
def test_documentation_is_drawn_and_loads_nothing_from_elsewhere(
    browser: Browser, playground: Server, path: str, drawn: str
) -> None:
    page = browser.new_page()
    errors: list[str] = []
    loaded: list[str | None] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("response", lambda answer: loaded.append(urlsplit(answer.url).hostname))
    page.goto(playground.url + path)
    expect(page.locator(drawn).first).to_be_visible(timeout=30_000)
    page.wait_for_load_state("networkidle")
    assert errors == [] and len(loaded) >= 3
    assert set(loaded) - {None, ""} == {"127.0.0.1"}  # others are data: and blob:
    page.close()
