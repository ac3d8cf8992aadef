"""What the playground does: images, budgets, streams, maps, errors; in Chromium, against a live server."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import small_manifest, small_net
from live import Server
from pages import Visit, chromium, playing, visiting
from playwright.sync_api import Browser, expect
from programs import tool

from model_store.store import Store

SHIP = Path(__file__).parent.parent / "images" / "ship.png"
HOSTILE = "<img src=x onerror=alert(1)>"
MAX_BODY_BYTES = 100_000

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

SEND = """
([kind, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true, dataTransfer: carried, clipboardData: carried };
  const make = kind === "paste" ? ClipboardEvent : DragEvent;
  document.getElementById("image").dispatchEvent(new make(kind, options));
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("playground")
    classes = tuple(f"{HOSTILE}{index}" for index in range(4))
    manifest, weights = small_manifest(
        small_net(num_classes=4), name="hostile", task="other", classes=classes
    )
    Store(root).publish(manifest, weights)
    with playing(root, '["cifar10-fusion", "hostile"]', MAX_BODY_BYTES=str(MAX_BODY_BYTES)) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    with visiting(browser, server) as opened:
        opened.answered()
        yield opened


def costs(server: Server) -> list[int]:
    return [spec["flops"] for spec in server.client.get("/models/cifar10-fusion").json()["exits"]]


def send(visit: Visit, kind: str, name: str, content: bytes, media_type: str = "image/png") -> None:
    visit.page.evaluate(SEND, [kind, name, media_type, base64.b64encode(content).decode()])


def run_shown_command(visit: Visit, folder: Path) -> str:
    """The label that the command gives in a shell."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", visit.text("#curl")],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "EXITRAMP_KEY": "secret-key"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    if done.stdout.startswith("{"):
        return str(json.loads(done.stdout)["predictions"][0]["label"])
    said = [line[6:] for line in done.stdout.splitlines() if line.startswith('data: {"label"')]
    return str(json.loads(said[-1])["label"])


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


def test_a_budget_moves_the_exit_the_curve_and_the_command(visit: Visit) -> None:
    cheapest = costs(visit.server)[0]
    visit.type("budget", str(cheapest))
    expect(visit.page.locator("#curl")).to_contain_text(f"X-FLOP-Budget: {cheapest}")
    expect(visit.page.locator("tr.answered th")).to_have_text("1")
    assert visit.text("#curve .landing-name") == "89.8 % for 15.3 M"
    assert visit.page.locator("#budget-slider").input_value() == "0"
    visit.page.locator("#budget-slider").fill("200")
    expect(visit.page.locator("#budget-value")).to_have_value("64.23M")
    expect(visit.page.locator("#curve .landing-name")).to_have_text("92.5 % for 23.7 M")
    assert visit.exit() > 1
    visit.switch("budget-on", False)
    expect(visit.page.locator("#network .mark-name")).to_have_text("default budget 21.5 M")
    visit.answered()
    assert "FLOP-Budget" not in visit.text("#curl")


def test_a_limit_leads_to_the_exit_that_fits_and_a_deadline_is_sent(visit: Visit) -> None:
    visit.switch("budget-on", False)
    visit.switch("live", False)
    for number, flops in enumerate(costs(visit.server), start=1):
        visit.type("limit", str(flops))
        expect(visit.page.locator("tr.answered th")).to_have_text(str(number))
        assert visit.page.locator("#network .exit.answered text").first.text_content() == str(number)
        assert visit.text("#curve .landing-name").endswith(f"for {visit.text('tr.answered td:nth-child(4)')}")
    assert visit.text("#network .mark-name.limit") == "limit 53.8 M"
    visit.switch("live", True)
    expect(visit.page.locator("#live-note")).to_be_visible()
    assert visit.page.locator("#curve .landing").count() == 0
    visit.switch("live", False)
    visit.switch("limit-on", False)
    visit.type("deadline", "5000")
    expect(visit.page.locator("#curl")).to_contain_text("X-Deadline-Ms: 5000")
    assert visit.exit() == 7
    assert '"deadline_ms": 5000' in visit.text("#raw")


def test_the_stream_fills_in_while_the_answer_is_still_coming(browser: Browser, server: Server) -> None:
    with visiting(browser, server, PACED) as visit:
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


def test_an_answer_that_comes_too_late_does_not_replace_a_newer_one(browser: Browser, server: Server) -> None:
    first, *_, last = costs(server)
    with visiting(browser, server, LATE) as visit:
        visit.answered()
        visit.switch("live", False)
        visit.switch("budget-on", False)
        visit.type("limit", str(last))
        visit.until("window.held")
        visit.type("limit", str(first))
        expect(visit.page.locator("tr.answered th")).to_have_text("1")
        shown = visit.text("#raw")
        visit.page.evaluate("window.held()")
        visit.page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
        assert visit.exit() == 1 and visit.text("#raw") == shown


def test_many_quick_changes_are_one_request(visit: Visit) -> None:
    before = visit.posts("classify/stream")
    visit.page.evaluate(
        """() => { for (let n = 0; n <= 200; n += 8) {
          const slider = document.getElementById("budget-slider");
          slider.value = n;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        } }"""
    )
    expect(visit.page.locator("#curl")).to_contain_text("64.23M")
    visit.answered()
    expect(visit.page.locator("#raw")).to_contain_text("64230000")
    assert visit.posts("classify/stream") == before + 1


def test_files_are_picked_dropped_and_pasted(visit: Visit, tmp_path: Path) -> None:
    visit.page.locator("#file").set_input_files(SHIP)
    expect(visit.page.locator("#label")).to_have_text("ship")
    assert visit.text("#image-name") == "ship.png"
    assert visit.page.locator("#samples [aria-pressed=true]").count() == 0
    frog = visit.server.client.get("/playground/samples/cifar10-frog.png").content
    send(visit, "drop", "green.png", frog)
    expect(visit.page.locator("#label")).to_have_text("frog")
    assert visit.text("#image-name") == "green.png"
    send(visit, "paste", "image.png", SHIP.read_bytes())
    expect(visit.page.locator("#label")).to_have_text("ship")
    assert visit.page.evaluate("document.getElementById('picture').naturalWidth") == 128


@pytest.mark.parametrize("live", [True, False])
def test_the_command_works_in_a_shell(visit: Visit, tmp_path: Path, live: bool) -> None:
    tool("curl")
    visit.switch("live", live)
    visit.type("budget", "30M")
    visit.answered()
    assert run_shown_command(visit, tmp_path) == visit.answered()
    own = tmp_path / 'it\'s "my" $HOME ship.png'
    own.write_bytes(SHIP.read_bytes())
    visit.page.locator("#file").set_input_files(own)
    expect(visit.page.locator("#label")).to_have_text("ship")
    assert run_shown_command(visit, tmp_path) == "ship"


def test_the_command_is_copied(browser: Browser, server: Server) -> None:
    with visiting(browser, server, permissions=["clipboard-read", "clipboard-write"]) as visit:
        visit.answered()
        visit.page.locator("#copy").click()
        expect(visit.page.locator("#copy")).to_have_text("Copied")
        assert (
            visit.page.evaluate("navigator.clipboard.readText()")
            == visit.page.locator("#curl").text_content()
        )


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
    visit.type(
        "limit", str(costs(visit.server)[4])
    )  # where a stream, paying heads on the way, leaves earlier
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
    visit.type("budget", str(costs(visit.server)[0]))  # and again after each change
    expect(visit.page.locator("#all-result")).to_contain_text("(100 %)")
    assert {text[:6] for text in visit.page.locator(".badge").all_text_contents()} == {"exit 1"}


def test_another_model_has_its_own_drawing_and_its_class_names_stay_text(visit: Visit) -> None:
    visit.page.locator("#model").select_option("hostile")
    expect(visit.page.locator("#label")).to_contain_text(HOSTILE)
    visit.answered()
    assert visit.page.locator("#network .exit").count() == 4
    assert visit.page.locator("#top li").count() == 4
    assert "X-Model: hostile" in visit.text("#curl")
    assert visit.page.locator("#answer img, #network img, #stream img").count() == 0
    visit.page.locator("#model").select_option("cifar10")
    expect(visit.page.locator("#network .exit")).to_have_count(7)
    assert visit.answered() == "dog"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (("budget", "1k"), r"422 budget_too_small.*15258880"),
        (("limit", "15M"), r"422 budget_too_small.*15258880"),
        (("deadline", "0.001"), r"504 deadline_exceeded.*deadline"),
    ],
)
def test_what_the_server_refuses_is_shown_and_gone_with_the_next_answer(
    visit: Visit, number: tuple[str, str], told: str
) -> None:
    visit.type(*number)
    expect(visit.page.locator("#problem")).to_have_text(re.compile(told))
    assert visit.text("#label") == "…" and visit.page.locator("#stream tr").count() == 0
    visit.switch(f"{number[0]}-on", False)
    expect(visit.page.locator("#problem")).to_be_empty()
    assert visit.answered() == "dog"


def test_a_field_without_a_number_says_so_and_asks_nothing(visit: Visit) -> None:
    before = len(visit.asked)
    for text in ("many", "-5M", "1e999", "", "\u0661M"):
        visit.type("budget", text)
        expect(visit.page.locator("#budget-value")).to_have_attribute("aria-invalid", "true")
        assert "25M" in visit.text("#budget-hint")
    visit.page.locator("#again").click()
    assert len(visit.asked) == before
    visit.type("budget", "2.5e7")
    expect(visit.page.locator("#raw")).to_contain_text("25000000")


def test_files_that_are_no_images_or_too_large_are_named(visit: Visit) -> None:
    send(visit, "drop", "notes.txt", b"only words", "text/plain")
    expect(visit.page.locator("#problem")).to_contain_text("415 unsupported_media_type")
    expect(visit.page.locator("#no-picture")).to_have_text("No preview of this file")
    send(visit, "drop", "half.png", SHIP.read_bytes()[:300])
    expect(visit.page.locator("#problem")).to_contain_text("422 undecodable_image")
    before = visit.posts("classify/stream")
    send(visit, "drop", "big.png", bytes(MAX_BODY_BYTES + 1))
    expect(visit.page.locator("#problem")).to_contain_text(f"{MAX_BODY_BYTES + 1} bytes")
    expect(visit.page.locator("#problem")).to_contain_text(f"the limit is {MAX_BODY_BYTES} bytes")
    assert visit.posts("classify/stream") == before
    send(visit, "drop", "ship.png", SHIP.read_bytes())
    expect(visit.page.locator("#label")).to_have_text("ship")
    expect(visit.page.locator("#picture")).to_be_visible()
