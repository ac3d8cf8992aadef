"""The command that the playground shows, in a real shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from live import Server
from pages import SHIP, Visit, visiting
from playwright.sync_api import Browser, expect
from programs import tool

pytest_plugins = ["playground_fixtures"]


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


def test_the_command_is_copied(browser: Browser, playground: Server) -> None:
    with visiting(browser, playground, permissions=["clipboard-read", "clipboard-write"]) as visit:
        visit.answered()
        visit.page.locator("#copy").click()
        expect(visit.page.locator("#copy")).to_have_text("Copied")
        assert (
            visit.page.evaluate("navigator.clipboard.readText()")
            == visit.page.locator("#curl").text_content()
        )
