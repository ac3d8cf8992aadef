"""What goes wrong in the playground is in sight, is about what is set now, and is gone once it is mended."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SmallStore
from live import Server, serving
from pages import SHIP, Visit, visiting, with_one_key
from PIL import Image
from playwright.sync_api import Browser, Locator, Route, expect

pytest_plugins = ["playground_fixtures"]

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
TABLET: dict[str, Any] = {"viewport": {"width": 820, "height": 1180}}


def in_sight(visit: Visit, element: Locator) -> bool:
    """Whether all of it is in the window, unscrolled."""
    box = element.bounding_box()
    assert box is not None and visit.page.viewport_size is not None
    scrolled = visit.page.evaluate("scrollY")
    return bool(
        scrolled == 0 and box["y"] >= 0 and box["y"] + box["height"] < visit.page.viewport_size["height"]
    )


def encoded(*frames: Image.Image, kind: str = "PNG") -> bytes:
    """A file of one or more frames."""
    file = io.BytesIO()
    more = {"save_all": True, "append_images": list(frames[1:]), "duration": 50} if len(frames) > 1 else {}
    frames[0].save(file, kind, **more)
    return file.getvalue()


def refuse(route: Route) -> None:
    """Say that a client has used up its quota."""
    told = {
        "title": "Quota exhausted",
        "status": 429,
        "code": "quota_exhausted",
        "detail": "no quota is left",
    }
    kind = "application/problem+json"
    route.fulfill(status=429, content_type=kind, headers={"Retry-After": "7"}, body=json.dumps(told))


def test_a_key_is_asked_for_at_the_top_and_no_longer_once_it_was_taken(
    browser: Browser, small_store: SmallStore, tmp_path: Path
) -> None:
    with serving(with_one_key(small_store, tmp_path)) as server:
        for size in (DESK, TABLET, PHONE):
            with visiting(browser, server, **size) as visit:
                form, field = visit.page.locator("#key-form"), visit.page.locator("#key")
                expect(field).to_be_focused()
                assert in_sight(visit, visit.page.locator("#problem")) and in_sight(visit, form)
                visit.page.keyboard.type("wrong")
                with visit.page.expect_response("**/classify/stream"):
                    visit.page.keyboard.press("Enter")
                expect(visit.page.locator("#problem")).to_contain_text("401 unauthorized")
                expect(field).to_be_focused()
                field.fill("secret-key")
                visit.page.keyboard.press("Enter")
                visit.answered()
                expect(form).to_be_hidden()
                assert field.input_value() == ""
                visit.type("limit", "1")
                expect(visit.page.locator("#problem")).to_contain_text("422")
                expect(form).to_be_hidden()


def test_phones_show_errors_in_the_strip_which_leads_to_the_card(
    browser: Browser, playground: Server
) -> None:
    with visiting(browser, playground, **PHONE) as visit:
        visit.answered()
        strip = visit.page.locator("#strip")
        expect(strip).to_contain_text("dog")
        visit.bring("drop", "notes.txt", b"only words", "text/plain")
        expect(strip).to_contain_text("Unsupported media type: ")
        visit.bring("drop", "ship.png", SHIP.read_bytes())
        expect(strip).to_contain_text("ship")
        visit.type("limit", "10M")
        expect(strip).to_contain_text("Budget too small: ")
        strip.click()
        expect(visit.page.locator("#problem .notice")).to_be_in_viewport(ratio=1)
        visit.type("limit", "abc")
        expect(strip).to_have_text("Limit: not a number")
        visit.type("limit", "1T")
        expect(strip).to_contain_text("ship")


@pytest.mark.parametrize("text", ["abc", "-5", "0", "", "25,5M"])
def test_neither_an_error_nor_a_command_outlives_its_setting(visit: Visit, text: str) -> None:
    visit.type("limit", "40M")
    expect(visit.page.locator("#curl")).to_contain_text("X-FLOP-Limit: 40M")
    visit.type("limit", text)
    expect(visit.page.locator("#curl")).to_have_text("# Limit: not a number")
    expect(visit.page.locator("#copy")).to_be_disabled()
    visit.type("limit", "10M")
    expect(visit.page.locator("#problem")).to_contain_text("422 budget_too_small")
    expect(visit.page.locator("#copy")).to_be_enabled()
    expect(visit.page.locator("#no-answer")).to_have_text("None: the error says why.")
    expect(visit.page.locator("#headline")).to_be_hidden()
    visit.type("limit", text)
    expect(visit.page.locator("#problem")).to_be_empty()
    expect(visit.page.locator("#no-answer")).to_have_text("None: Limit holds no number.")
    visit.type("limit", "1T")
    expect(visit.page.locator("#headline")).to_be_visible()
    assert visit.answered() == "dog" and visit.page.locator("#no-answer").is_hidden()


def test_asking_for_all_samples_asks_again_about_what_was_refused(
    browser: Browser, playground: Server
) -> None:
    with visiting(browser, playground) as visit:
        visit.answered()
        visit.page.context.route("**/classify/stream", refuse)
        visit.page.locator("#again").click()
        problem = visit.page.locator("#problem")
        expect(problem).to_contain_text("no quota is left. Try again in 7 s.")
        visit.page.context.unroute("**/classify/stream")
        visit.page.locator("#all").click()
        expect(visit.page.locator(".badge.right, .badge.wrong")).to_have_count(12)
        expect(problem).to_be_empty()
        assert visit.answered() == "dog"


def test_the_preview_is_what_the_network_sees(visit: Visit) -> None:
    cut, moves = visit.page.locator("#cut-note"), visit.page.locator("#moves-note")
    assert cut.is_hidden() and moves.is_hidden()
    visit.bring("drop", "clear.png", encoded(Image.new("RGBA", (40, 40))))
    visit.until("document.getElementById('picture').naturalWidth === 40")
    white = "getComputedStyle(document.getElementById('picture')).backgroundColor"
    assert visit.page.evaluate(white) == "rgb(255, 255, 255)" and cut.is_hidden()
    visit.bring("drop", "wide.png", encoded(Image.new("RGB", (80, 40))))
    expect(cut).to_have_text("Only the middle square is judged, as shown.")
    visit.bring("drop", "ship.png", SHIP.read_bytes())
    expect(cut).to_be_hidden()
    for kind in ("GIF", "PNG", "WEBP"):
        frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
        visit.bring("drop", f"moving.{kind}", encoded(*frames, kind=kind))
        expect(moves).to_have_text("Only the first frame is judged.")
        visit.bring("drop", f"still.{kind}", encoded(frames[0], kind=kind))
        expect(moves).to_be_hidden()
    visit.bring("drop", "half.gif", b"GIF89a\x20\x00\x20\x00\x80\x00\x00" + bytes(6) + b"\x21\xf9\xff")
    expect(visit.page.locator("#problem")).to_contain_text("422 undecodable_image")


def test_full_depth_is_the_cost_with_all_exits_asked_and_shares_are_never_nothing(visit: Visit) -> None:
    visit.switch("budget-on", False)
    visit.type("limit", "1T")
    expect(visit.page.locator("#raw")).to_contain_text('"limit":')
    assert visit.exit() == 7
    facts = visit.page.locator("#facts")
    [*_, last] = visit.server.client.get("/models/cifar10-fusion").json()["exits"]
    spent = float(visit.text("tr.answered td:nth-child(4)").removesuffix(" M")) * 1e6
    assert last["flops"] < spent <= last["dense_flops"]  # exits on the way have cost something
    expect(facts).to_contain_text(f"Of full depth{spent / last['dense_flops']:.0%}".replace("%", " %"))
    expect(visit.page.locator("#network-caption")).to_contain_text("64.2 M FLOPs at full depth")
    visit.switch("limit-on", False)
    visit.type("budget", "1e15")
    expect(facts).to_contain_text("Of the budget< 0.1 %")


@pytest.mark.parametrize(("width", "name"), [(1440, "block 1"), (820, "1"), (390, "1")])
def test_blocks_are_all_named_or_all_numbered(
    browser: Browser, playground: Server, width: int, name: str
) -> None:
    with visiting(browser, playground, viewport={"width": width, "height": 900}) as visit:
        visit.answered()
        names = visit.page.locator("#network .block text").all_text_contents()
        assert names == [name.replace("1", str(number)) for number in range(1, 8)]
        assert visit.page.locator("#network .block rect").count() == 7


def test_exits_on_the_way_are_quoted_where_there_is_room(browser: Browser, playground: Server) -> None:
    with visiting(browser, playground, **TABLET) as visit:
        visit.answered()
        visit.type("limit", "1T")
        visit.switch("budget-on", False)
        expect(visit.page.locator("#network .gauge")).to_have_count(3)
        visit.answered()
        labels = visit.page.locator("#network .exit .label").all_text_contents()
        assert labels == visit.page.locator("#stream td.name").all_text_contents()
