"""The playground for everybody: legible on every screen, by keyboard, by ear, in both themes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from live import Server
from pages import Visit, visiting
from playwright.sync_api import Browser, expect

pytest_plugins = ["playground_fixtures"]

SIZES = {"desk": (1440, 900), "tablet": (820, 1180), "phone": (390, 844), "small phone": (360, 640)}

CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return a === 0 ? null : [r, g, b];
  };
  const light = (parts) => {
    const [r, g, b] = parts.map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    if (element instanceof SVGElement && element.parentElement.tagName === "g") {
      const shape = element.parentElement.querySelector("rect, circle");
      const inside = shape && shape.getBBox().y < element.getBBox().y + 1;
      if (inside) return rgb(getComputedStyle(shape).fill);
    }
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const seen = element.checkVisibility() && !element.closest(".unseen");
    if (!seen || !(own || element.matches("input[type=text], select"))) continue;
    const style = getComputedStyle(element);
    const ink = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [ink, ground(element)].map(light);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.slice(0, 30)]);
  }
  return found;
}
"""
"""Contrast of every text with what is behind it, WCAG 2.2 section 1.4.3."""

TOUCHED = """
() => [...document.querySelectorAll("button, select, summary, .switch, .button, header a")]
  .concat([...document.querySelectorAll("input[type=range], input[type=text]")])
  .filter((element) => element.checkVisibility())
  .map((element) => [element.getBoundingClientRect(), element])
  .map(([box, element]) => [Math.min(box.width, box.height), element.id || element.textContent.trim()])
"""

FOCUSED = """
() => {
  const at = document.activeElement;
  const shown = at.closest(".button") ?? at;  // the file field itself is invisible
  const style = getComputedStyle(shown);
  const name = at.id || at.getAttribute("data-file") || at.textContent.trim();
  return [name, style.outlineStyle, style.outlineWidth];
}
"""


def look(size: str, **options: Any) -> dict[str, Any]:
    width, height = SIZES[size]
    touch = size != "desk"
    return {"viewport": {"width": width, "height": height}, "has_touch": touch, "is_mobile": touch, **options}


def fill(visit: Visit) -> None:
    """Show all that can be shown."""
    visit.answered()
    visit.type("limit", "1T")
    visit.switch("map-on", True)
    visit.page.locator("#all").click()
    expect(visit.page.locator(".badge.right, .badge.wrong").first).to_be_visible()
    expect(visit.page.locator("#network .mark-name")).to_have_count(2)
    visit.page.locator("summary").click()
    visit.answered()


@pytest.mark.parametrize(
    ("size", "theme"),
    [("desk", "light"), ("desk", "dark"), ("tablet", "dark"), ("phone", "light"), ("small phone", "dark")],
)
def test_nothing_sticks_out_everything_is_legible_and_large_enough(
    browser: Browser, playground: Server, size: str, theme: str
) -> None:
    with visiting(browser, playground, **look(size, color_scheme=theme)) as visit:
        fill(visit)
        inner, outer = visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert inner <= outer
        contrasts = visit.page.evaluate(CONTRASTS)
        assert len(contrasts) > 60
        assert not [entry for entry in contrasts if entry[0] < 4.5]
        if size != "desk":
            touched = visit.page.evaluate(TOUCHED)
            assert len(touched) > 20
            assert not [entry for entry in touched if entry[0] < 44]


def test_an_error_is_legible_too(browser: Browser, playground: Server) -> None:
    for theme in ("light", "dark"):
        with visiting(browser, playground, **look("phone", color_scheme=theme)) as visit:
            visit.answered()
            visit.type("budget", "1")
            expect(visit.page.locator("#problem")).to_contain_text("budget_too_small")
            visit.type("limit", "many")
            expect(visit.page.locator("#limit-hint .wrong")).to_be_visible()
            assert not [entry for entry in visit.page.evaluate(CONTRASTS) if entry[0] < 4.5]


def test_the_theme_follows_the_system_until_it_is_chosen_and_is_remembered(
    browser: Browser, playground: Server
) -> None:
    dark = "getComputedStyle(document.body).backgroundColor === 'rgb(14, 20, 18)'"
    with visiting(browser, playground, **look("desk", color_scheme="dark")) as visit:
        assert visit.page.evaluate(dark)
        button = visit.page.locator("#theme")
        expect(button).to_have_accessible_name("Theme: system")
        button.click()
        expect(button).to_have_accessible_name("Theme: light")
        assert not visit.page.evaluate(dark)
        visit.page.reload()
        expect(button).to_have_accessible_name("Theme: light")
        assert not visit.page.evaluate(dark)
        button.click()
        assert visit.page.evaluate(dark)


def test_everything_is_done_with_the_keyboard_alone(browser: Browser, playground: Server) -> None:
    with visiting(browser, playground, **look("desk")) as visit:
        visit.answered()
        press = visit.page.keyboard.press

        def go_to(name: str) -> None:
            for _ in range(60):
                press("Tab")
                at, outline, width = visit.page.evaluate(FOCUSED)
                assert outline == "solid" and width == "3px", f"the focus on {at} cannot be seen"
                if at == name:
                    return
            raise AssertionError(f"{name} is not reached")

        for name in ("theme", "file", "all", "cifar10-cat.png"):
            go_to(name)
        press("Enter")
        expect(visit.page.locator("#image-name")).to_have_text("cat")
        go_to("model")
        go_to("budget-on")
        press("Space")
        expect(visit.page.locator("#network .mark-name")).to_contain_text("default budget")
        go_to("limit-slider")
        before = visit.page.locator("#limit-value").input_value()
        press("ArrowRight")
        expect(visit.page.locator("#limit-value")).not_to_have_value(before)
        expect(visit.page.locator("#limit-on")).to_be_checked()
        expect(visit.page.locator("#raw")).to_contain_text('"limit":')
        go_to("deadline-value")
        visit.page.keyboard.type("5000")
        expect(visit.page.locator("#curl")).to_contain_text("X-Deadline-Ms: 5000")
        go_to("again")
        asked = visit.posts("classify/stream")
        press("Enter")
        visit.until("document.getElementById('answer').getAttribute('aria-busy') === 'false'")
        assert visit.posts("classify/stream") == asked + 1
        go_to("copy")
        go_to("What the server answered")
        press("Enter")
        expect(visit.page.locator("#raw")).to_be_visible()


def test_a_screen_reader_is_told_the_answer_and_every_control_has_a_name(
    browser: Browser, playground: Server
) -> None:
    with visiting(browser, playground) as visit:
        label = visit.answered()
        said = visit.text("#announcement")
        assert said.startswith(f"{label}, ") and re.search(r"exit \d of 7", said)
        tree = visit.page.locator("body").aria_snapshot()
        for role in ("button", "switch", "slider", "textbox", "combobox", "img", "link"):
            assert not re.search(rf"^\s*- {role}(?!.*\")", tree, re.MULTILINE), f"a {role} has no name"
        assert 'slider "Mean budget"' in tree and 'heading "Answer"' in tree
        assert re.search(r"img \"cifar10-fusion: 7 exits\. exit 1 says", tree)


def test_motion_rests_where_it_is_unwanted(browser: Browser, playground: Server) -> None:
    with visiting(browser, playground, **look("desk", reduced_motion="reduce")) as visit:
        visit.answered()
        fresh = visit.page.locator(".fresh")
        assert fresh.evaluate("(element) => getComputedStyle(element).animationName") == "none"
