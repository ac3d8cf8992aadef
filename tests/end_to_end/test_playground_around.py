"""The playground behind a prefix, with keys, before its server is ready and after it is gone."""

from __future__ import annotations

from pathlib import Path

from conftest import SmallStore
from live import Server, serving
from pages import HASTY, Loading, visiting, with_one_key
from playwright.sync_api import Browser, Route, expect

pytest_plugins = ["playground_fixtures"]


def test_it_works_below_a_path_prefix(browser: Browser, playground: Server) -> None:
    prefix = "https://proxy.test/some/where"

    def forward(route: Route) -> None:
        path = route.request.url.removeprefix(prefix)
        assert path.startswith("/"), "asked beside the prefix"
        headers = {key: value for key, value in route.request.headers.items() if key != "host"}
        answer = playground.client.request(
            route.request.method, path, content=route.request.post_data_buffer, headers=headers
        )
        route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    context = browser.new_context()
    context.route("**/*", forward)
    page = context.new_page()
    page.goto(f"{prefix}/")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    assert f"{prefix}/classify/stream" in (page.locator("#curl").text_content() or "")
    context.close()


def test_it_waits_for_a_server_that_is_still_loading(browser: Browser, playground: Server) -> None:
    loading = Loading()
    with visiting(browser, playground, HASTY, {"**/models": loading.meet}) as visit:
        problem = visit.page.locator("#problem")
        expect(problem).to_contain_text("the models are being loaded. Try again in 2 s.")
        loading.over = True
        assert visit.answered() == "dog"
        expect(problem).to_be_empty()


def test_keys_are_asked_for_and_a_server_that_is_gone_is_named(
    browser: Browser, small_store: SmallStore, tmp_path: Path
) -> None:
    with serving(with_one_key(small_store, tmp_path)) as server, visiting(browser, server) as visit:
        expect(visit.page.locator("#problem")).to_contain_text("401 unauthorized")
        visit.page.locator("#key").fill("wrong")
        with visit.page.expect_response("**/classify/stream"):
            visit.page.get_by_role("button", name="Use it").click()
        expect(visit.page.locator("#problem")).to_contain_text("401 unauthorized")
        visit.page.locator("#key").fill("secret-key")
        visit.page.locator("#key").press("Enter")
        visit.answered()
        expect(visit.page.locator("#problem")).to_be_empty()
        assert '-H "X-API-Key: $EXITRAMP_KEY"' in visit.text("#curl")
        assert "secret-key" not in (visit.page.text_content("body") or "")
        assert server.stop() == 0
        visit.page.locator("#again").click()
        expect(visit.page.locator("#problem")).to_contain_text("The server cannot be reached")
        assert visit.text("#label") == "…"
        visit.complaints = [text for text in visit.complaints if "ERR_CONNECTION_REFUSED" not in text]
