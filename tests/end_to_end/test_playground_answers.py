"""What the playground shows of answers: drawings, streams, maps, all samples at once."""

from __future__ import annotations

import re

from live import Server
from pages import Visit, visiting
from playwright.sync_api import Browser, expect

pytest_plugins = ["playground_fixtures"]

PACED = """
const ask = window.fetch;
window.fetch = async (address, options) => {
  const answer = await ask(address, options);
  if (!String(address).endsWith("/classify/stream") || !answer.ok) return answer;
  const events = (await answer.text()).split(/(?<=\\n\\n)/).filter((event) => event);
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    async pull(stream) {
      if (!events.length) return stream.close();
      await new Promise((resolve) => { window.next = resolve; });
      stream.enqueue(encoder.encode(events.shift()));
    },
  }, { highWaterMark: 0 });
  return new Response(body);
};
"""
"""Lets the events of a stream through one by one, with ``next()``."""

LATE = """
const ask = window.fetch;
window.fetch = async (address, options) => {
  if (!String(address).endsWith("/classify") || window.held) return ask(address, options);
  const answer = await ask(address, { ...options, signal: undefined });  // deaf to being aborted
  await new Promise((resolve) => { window.held = resolve; });
  return answer;
};
"""
"""Keeps the first answer of /classify back until ``held()``."""


def test_it_opens_with_an_answer_and_all_its_drawings(visit: Visit) -> None:
    assert visit.text("#label") == "dog"  # the first sample
    assert re.fullmatch(r"\d+\.\d %", visit.text("#confidence"))
    assert visit.page.locator("#top li").count() == 5
    assert visit.page.locator("#network .exit").count() == 7
    assert visit.page.locator("#network .exit.answered").count() == 1
    assert visit.page.locator("#network .block.ran").count() == visit.exit()
    assert visit.page.locator("#curve .numbered").count() == 7
    assert visit.text("#network .mark-name.budget").startswith("budget 21.5")
    assert "total" in visit.text("#timing")
    visit.page.get_by_text("What the server answered").click()
    assert "event: done" in visit.text("#raw")


def test_samples_leave_early_or_late_and_the_page_shows_what_classify_says(visit: Visit) -> None:
    exits, right = [], 0
    visit.type("budget", "100M")  # that no image exceeds: where a mean is to be held, the images before count
    buttons = visit.page.locator("#samples button")
    assert 8 <= buttons.count() <= 12
    for number in range(buttons.count()):
        buttons.nth(number).click()
        expect(buttons.nth(number)).to_have_attribute("aria-pressed", "true")
        visit.answered()
        exits.append(visit.exit())
        right += visit.text("#label") in (buttons.nth(number).get_attribute("aria-label") or "")
    assert min(exits) == 1 and max(exits) >= 3 and exits.count(1) >= 4 and right >= 9


def test_the_stream_fills_in_while_the_answer_is_still_coming(browser: Browser, playground: Server) -> None:
    with visiting(browser, playground, PACED) as visit:
        visit.until("window.next")
        visit.type("limit", "1T")
        visit.switch("budget-on", False)
        expect(visit.page.locator("#curl")).to_contain_text("X-FLOP-Limit: 1T")
        rows, nodes = visit.page.locator("#stream tr"), visit.page.locator("#network .gauge")
        visit.page.evaluate("delete window.next")
        visit.until("window.next")
        for count in range(1, 4):
            visit.page.evaluate("const go = window.next; delete window.next; go()")
            expect(rows).to_have_count(count)
            assert nodes.count() == count and visit.page.locator(".exit.answered").count() == 0
            assert visit.page.locator("#answer").get_attribute("aria-busy") == "true"
            visit.until("window.next")
        exits = [int(text) for text in rows.locator("th").all_text_contents()]
        assert exits == sorted(set(exits)) and exits[0] == 1
        visit.page.evaluate("window.next()")
        assert visit.exit() == exits[-1] and nodes.count() == 3


def test_an_answer_that_comes_too_late_does_not_replace_a_newer_one(
    browser: Browser, playground: Server
) -> None:
    with visiting(browser, playground, LATE) as visit:
        first, *_, last = visit.costs()
        visit.answered()
        visit.switch("live", False)
        visit.switch("budget-on", False)
        visit.type("limit", str(last))
        visit.until("window.held")
        visit.type("limit", str(first))
        expect(visit.page.locator("tr.answered th")).to_have_text("1")
        visit.exit()  # waits for the answer
        shown = visit.text("#raw")
        visit.page.evaluate("window.held()")
        visit.page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
        assert visit.exit() == 1 and visit.text("#raw") == shown


def test_the_activation_map_lies_over_the_image(visit: Visit) -> None:
    assert visit.page.locator("#map").is_hidden() and visit.posts("explain") == 0
    visit.switch("map-on", True)
    expect(visit.page.locator("#map")).to_be_visible()
    visit.until("document.getElementById('map').naturalWidth === 224")
    for _ in range(6):  # the server may let it leave elsewhere each time, to hold the mean
        with visit.page.expect_response("**/explain"):
            visit.page.locator("#again").click()
        expect(visit.page.locator("#map-note")).to_have_text(
            f"Why exit {visit.exit()} says {visit.answered()}"
        )
    visit.type("limit", str(visit.costs()[4]))  # where a stream, paying heads on the way, leaves earlier
    visit.switch("budget-on", False)
    expect(visit.page.locator("#raw")).to_contain_text('"limit":')
    expect(visit.page.locator("#map-note")).to_have_text(f"Why exit {visit.exit()} says {visit.answered()}")
    visit.page.locator("#map-opacity").fill("25")
    assert visit.page.evaluate("getComputedStyle(document.getElementById('map')).opacity") == "0.25"
    visit.switch("map-on", False)
    expect(visit.page.locator("#map")).to_be_hidden()


def test_all_samples_in_one_request_stay_within_the_budget(visit: Visit) -> None:
    visit.type("budget", "20M")
    expect(visit.page.locator("#raw")).to_contain_text("20000000")
    visit.page.locator("#all").click()
    expect(visit.page.locator(".badge.right, .badge.wrong")).to_have_count(12)
    told = re.search(
        r"12 images in one request: (\d+) right, mean ([\d.]+) M FLOPs of 20 M", visit.text("#all-result")
    )
    assert told and int(told[1]) >= 8 and float(told[2]) <= 20
    exits = {int(text[5]) for text in visit.page.locator(".badge").all_text_contents()}
    assert min(exits) == 1 and max(exits) >= 3
    means = re.match(r"13 images with these settings spent ([\d.]+) M", visit.text("#means-text"))
    assert means and float(means[1]) <= 23.5  # the single one is above
    visit.type("budget", str(visit.costs()[0]))  # and again after each change
    expect(visit.page.locator("#all-result")).to_contain_text("(100 %)")
    assert {text[:6] for text in visit.page.locator(".badge").all_text_contents()} == {"exit 1"}
