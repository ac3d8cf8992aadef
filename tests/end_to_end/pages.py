"""The playground in a real browser: Debian's Chromium, driven by Playwright's synchronous interface."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import SmallStore
from live import Server
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from programs import tool

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Chromium without a window, and without requests of its own."""

PATIENCE_MS = 20_000
"""With what takes moments, on a busy machine, milliseconds."""

REFUSED = re.compile(r"Failed to load resource: the server responded with a status of")
"""What Chromium itself writes to the console about every answer over 399."""

SHIP = Path(__file__).parent.parent / "images" / "ship.png"
"""A user's own image, which no sample is."""

HOSTILE = "<img src=x onerror=alert(1)>"
"""How classes of the model ``hostile`` are called."""

MAX_BODY_BYTES = 100_000
"""What the tests' server takes."""


def with_one_key(store: SmallStore, folder: Path) -> dict[str, str]:
    """Settings of a server that answers the key ``secret-key`` alone; its keys file goes into ``folder``."""
    path = folder / "keys.json"
    digest = hashlib.sha256(b"secret-key").hexdigest()
    path.write_text(json.dumps({"keys": [{"name": "one", "sha256": digest}]}))
    settings = {"MODEL_STORE": str(store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    return {**settings, "KEYS_FILE": str(path)}


BRING = """
([kind, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true, dataTransfer: carried, clipboardData: carried };
  const make = kind === "paste" ? ClipboardEvent : DragEvent;
  document.getElementById("image").dispatchEvent(new make(kind, options));
}
"""

HASTY = """
const later = window.setTimeout;
window.setTimeout = (call, pause) => later(call, pause === 2000 ? 50 : pause);
"""
"""Has the page ask for models that are still being loaded more often than each two seconds."""

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Visit:
    """An open playground, and all that it asked for and complained about."""

    page: Page
    server: Server
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        """What an element says."""
        return (self.page.locator(selector).text_content() or "").strip()

    def answered(self) -> str:
        """The label, once the answer is whole."""
        expect(self.page.locator("#answer")).to_have_attribute("aria-busy", "false")
        return self.text("#label")

    def until(self, condition: str) -> None:
        """Wait until something holds in the page, whose policy forbids Playwright's own way: ``eval``."""
        deadline_s = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline_s, f"it never came true that {condition}"
            self.page.wait_for_timeout(10)

    def switch(self, name: str, on: bool) -> None:
        """Turn a switch."""
        self.page.locator(f"#{name}").set_checked(on)

    def type(self, name: str, number: str) -> None:
        """Write a number into the field of a control, which turns it on."""
        self.page.locator(f"#{name}-value").fill(number)

    def bring(self, kind: str, name: str, content: bytes, media_type: str = "image/png") -> None:
        """Drop or paste a file."""
        self.page.evaluate(BRING, [kind, name, media_type, base64.b64encode(content).decode()])

    def costs(self) -> list[int]:
        """What the exits of the embedded network cost."""
        return [spec["flops"] for spec in self.server.client.get("/models/cifar10-fusion").json()["exits"]]

    def posts(self, path: str) -> int:
        """How many requests went to a route."""
        return self.asked.count(f"POST {self.server.url}/{path}")

    def exit(self) -> int:
        """The exit that answered."""
        self.answered()
        return int(self.text("tr.answered th"))


@dataclass
class Loading:
    """Answers for a server that is still loading its models, until it is told to stop."""

    over: bool = False

    def meet(self, route: Route) -> None:
        """Refuse a request, or let it through."""
        if self.over:
            route.continue_()
            return
        detail = "the models are being loaded"
        told = {"title": "Not ready", "status": 503, "code": "not_ready", "detail": detail}
        kind = "application/problem+json"
        route.fulfill(status=503, content_type=kind, headers={"Retry-After": "2"}, body=json.dumps(told))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser until the end of the block; the test skips where none is installed."""
    path = tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(
    browser: Browser,
    server: Server,
    script: str = "",
    routes: Mapping[str, Callable[[Route], None]] | None = None,
    **options: Any,
) -> Iterator[Visit]:
    """The playground in a window of its own; afterwards it must have asked its server only, without errors.

    Args:
        browser: To open the window in.
        server: That the page comes from.
        script: Runs before the page's own.
        routes: What requests to some addresses meet instead of the server.
        options: Of the window: size, theme, touch.
    """
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        visit = Visit(page, server)
        context.on("request", lambda request: visit.asked.append(f"{request.method} {request.url}"))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("console", lambda said: visit.complaints.append(said.text) if said.type == "error" else None)
        for address, meet in (routes or {}).items():
            context.route(address, meet)
        if script:
            page.add_init_script(script)
        page.goto(server.url)
        yield visit
        foreign = [entry for entry in visit.asked if not _own(entry.split(" ")[1], server.url)]
        assert not foreign
        assert not [text for text in visit.complaints if not REFUSED.match(text)]
    finally:
        context.close()


def _own(url: str, origin: str) -> bool:
    return url.startswith((origin + "/", "blob:" + origin + "/"))
