"""The interactive documentation in a real browser: who comes for the first time classifies an image."""

from __future__ import annotations

from live import Server
from pages import PATIENCE_MS, SHIP
from playwright.sync_api import Browser, expect

pytest_plugins = ["playground_fixtures"]

CLASSIFY = "#operations-classification-classify_classify_post"


def test_a_newcomer_uploads_an_image_and_reads_its_class_and_cost(
    browser: Browser, playground: Server
) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{playground.url}/docs")
    operation = page.locator(CLASSIFY)
    operation.locator(".opblock-summary").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("input[type=file]").set_input_files(str(SHIP))
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer).to_contain_text('"label": "ship"')
    expect(answer).to_contain_text("x-flops")
    expect(answer).to_contain_text('"mean": 25000000')
    expect(answer).to_contain_text('"limit": null')  # of the headers one alone is filled in beforehand
    assert not complaints and not [url for url in asked if not url.startswith((playground.url, "data:"))]
    page.close()
