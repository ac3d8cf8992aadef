"""What a request may cost, set in the playground: budgets, limits, deadlines, models, and what is refused."""

from __future__ import annotations

import re

import pytest
from pages import HOSTILE, Visit
from playwright.sync_api import expect

pytest_plugins = ["playground_fixtures"]


def test_a_budget_moves_the_exit_the_curve_and_the_command(visit: Visit) -> None:
    cheapest = visit.costs()[0]
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
    for number, flops in enumerate(visit.costs(), start=1):
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
