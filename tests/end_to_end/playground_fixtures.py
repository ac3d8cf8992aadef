"""What the tests of the playground share: one server for all of them, a browser for each module.

A plugin of pytest. Of the browser there is one for each module because Playwright's event loop must be gone
when tests that have their own run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import small_manifest, small_net
from live import Server, serving
from pages import HOSTILE, MAX_BODY_BYTES, Visit, chromium, visiting
from playwright.sync_api import Browser

from model_store.store import EMBEDDED, Store


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded CIFAR-10 network and a small one whose classes have hostile names."""
    root = tmp_path_factory.mktemp("playground")
    (root / "cifar10-fusion").symlink_to(EMBEDDED / "cifar10-fusion")
    classes = tuple(f"{HOSTILE}{index}" for index in range(4))
    manifest, weights = small_manifest(
        small_net(num_classes=4), name="hostile", task="other", classes=classes
    )
    Store(root).publish(manifest, weights)
    settings = {"MODEL_STORE": str(root), "MODELS": '["cifar10-fusion", "hostile"]', "THREADS": "1"}
    with serving({**settings, "MAX_BODY_BYTES": str(MAX_BODY_BYTES)}) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of a module."""
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, playground: Server) -> Iterator[Visit]:
    """The page after its first answer."""
    with visiting(browser, playground) as opened:
        opened.answered()
        yield opened
