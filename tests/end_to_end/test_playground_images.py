"""Images in the playground: brought by its user at any time, or picked among the samples."""

from __future__ import annotations

import time

import pytest
from live import Server
from pages import HASTY, MAX_BODY_BYTES, PATIENCE_MS, SHIP, Loading, Visit, visiting
from playwright.sync_api import Browser, Locator, Route, expect

pytest_plugins = ["playground_fixtures"]


class Slow:
    """Keeps what the page fetches from an address back for a while."""

    def __init__(self) -> None:
        self.held: list[Route] = []
        self.free = False

    def meet(self, route: Route) -> None:
        if self.free or route.request.resource_type != "fetch":  # but the button's own picture, the same file
            route.continue_()
        else:
            self.held.append(route)

    def until_asked(self, visit: Visit) -> None:
        """Wait for the page to fetch it."""
        deadline_s = time.monotonic() + PATIENCE_MS / 1000
        while not self.held:
            assert time.monotonic() < deadline_s, "it is never fetched"
            visit.page.wait_for_timeout(10)

    def let_through(self, visit: Visit) -> None:
        """Give it to the page, and time to make use of it."""
        self.free = True
        [route] = self.held
        with visit.page.expect_request_finished(lambda request: request == route.request):
            route.continue_()
        visit.page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")


def sample(visit: Visit, label: str) -> Locator:
    """The button of the first sample of a class."""
    return visit.page.locator(f"#samples [data-file='cifar10-{label}.png']")


def test_files_are_picked_dropped_and_pasted(visit: Visit) -> None:
    visit.page.locator("#file").set_input_files(SHIP)
    expect(visit.page.locator("#label")).to_have_text("ship")
    assert visit.text("#image-name") == "ship.png"
    assert visit.page.locator("#samples [aria-pressed=true]").count() == 0
    frog = visit.server.client.get("/playground/samples/cifar10-frog.png").content
    visit.bring("drop", "green.png", frog)
    expect(visit.page.locator("#label")).to_have_text("frog")
    assert visit.text("#image-name") == "green.png"
    visit.bring("paste", "image.png", SHIP.read_bytes())
    expect(visit.page.locator("#label")).to_have_text("ship")
    assert visit.page.evaluate("document.getElementById('picture').naturalWidth") == 128


def test_files_that_are_no_images_or_too_large_are_named(visit: Visit) -> None:
    visit.bring("drop", "notes.txt", b"only words", "text/plain")
    expect(visit.page.locator("#problem")).to_contain_text("415 unsupported_media_type")
    expect(visit.page.locator("#no-picture")).to_have_text("No preview of this file")
    visit.bring("drop", "half.png", SHIP.read_bytes()[:300])
    expect(visit.page.locator("#problem")).to_contain_text("422 undecodable_image")
    before = visit.posts("classify/stream")
    visit.bring("drop", "big.png", bytes(MAX_BODY_BYTES + 1))
    expect(visit.page.locator("#problem")).to_contain_text(f"{MAX_BODY_BYTES + 1} bytes")
    expect(visit.page.locator("#problem")).to_contain_text(f"the limit is {MAX_BODY_BYTES} bytes")
    assert visit.posts("classify/stream") == before
    visit.bring("drop", "ship.png", SHIP.read_bytes())
    expect(visit.page.locator("#label")).to_have_text("ship")
    expect(visit.page.locator("#picture")).to_be_visible()


@pytest.mark.parametrize("way", ["drop", "paste", "file"])
def test_an_image_that_is_brought_while_models_are_loading_is_asked_about_once_they_are_there(
    browser: Browser, playground: Server, way: str
) -> None:
    loading = Loading()
    with visiting(browser, playground, HASTY, {"**/models": loading.meet}) as visit:
        expect(visit.page.locator("#problem")).to_contain_text("the models are being loaded")
        if way == "file":
            visit.page.locator("#file").set_input_files(SHIP)
        else:
            visit.bring(way, "ship.png", SHIP.read_bytes())
        visit.type("budget", "30M")  # which asks nothing yet
        expect(visit.page.locator("#picture")).to_be_visible()
        assert visit.text("#image-name") == "ship.png" and visit.posts("classify/stream") == 0
        loading.over = True
        expect(visit.page.locator("#label")).to_have_text("ship")
        visit.answered()
        expect(visit.page.locator("#problem")).to_be_empty()
        assert visit.page.evaluate("document.getElementById('picture').naturalWidth") == 128
        assert visit.page.locator("#samples [aria-pressed=true]").count() == 0
        assert visit.posts("classify/stream") == 1


def test_of_two_samples_the_one_that_was_clicked_last_is_shown(browser: Browser, playground: Server) -> None:
    slow = Slow()
    with visiting(browser, playground, routes={"**/cifar10-automobile.png": slow.meet}) as visit:
        visit.answered()
        sample(visit, "automobile").click()
        slow.until_asked(visit)
        sample(visit, "ship").click()
        expect(visit.page.locator("#label")).to_have_text("ship")
        slow.let_through(visit)
        visit.answered()
        assert visit.text("#image-name") == visit.text("#label") == "ship"
        expect(sample(visit, "ship")).to_have_attribute("aria-pressed", "true")
        sample(visit, "automobile").click()  # which is there by now
        expect(visit.page.locator("#label")).to_have_text("automobile")


def test_a_sample_that_comes_late_does_not_replace_an_own_image(browser: Browser, playground: Server) -> None:
    slow = Slow()
    with visiting(browser, playground, routes={"**/cifar10-dog.png": slow.meet}) as visit:
        slow.until_asked(visit)  # the first sample, before anything was picked
        visit.bring("drop", "mine.png", SHIP.read_bytes())
        expect(visit.page.locator("#label")).to_have_text("ship")
        slow.let_through(visit)
        assert visit.answered() == "ship" and visit.text("#image-name") == "mine.png"


def test_a_sample_that_cannot_be_fetched_says_so_and_leaves_what_is_shown(
    browser: Browser, playground: Server
) -> None:
    broken = [True]

    def fail(route: Route) -> None:
        if broken and route.request.resource_type == "fetch":
            route.fulfill(status=500)
        else:
            route.continue_()

    with visiting(browser, playground, routes={"**/cifar10-dog.png": fail}) as visit:
        problem, label = visit.page.locator("#problem"), visit.page.locator("#label")
        expect(problem).to_contain_text("HTTP 500")  # of the first sample already
        sample(visit, "ship").click()
        expect(label).to_have_text("ship")
        expect(problem).to_be_empty()
        sample(visit, "dog").click()
        expect(problem).to_contain_text("HTTP 500")
        assert visit.answered() == visit.text("#image-name") == "ship"
        broken.clear()
        sample(visit, "dog").click()
        expect(label).to_have_text("dog")
        expect(problem).to_be_empty()
