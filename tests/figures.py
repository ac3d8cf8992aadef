"""A plugin: reliability tests print what they measured, as one table at the end of the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

FIGURES = pytest.StashKey[dict[int, list[str]]]()

ROWS = {
    1: "soak: mixed budgets at 70 % of capacity",
    2: "20,000 mutated images",
    3: "body limit -1/0/+1, three ways",
    4: "engine frozen, queue filled, 50 more",
    5: "deadline expires in the queue",
    6: "50 clients vanish while queued",
    7: "2,000 mixed requests against the solo run",
    8: "every limit and budget x 200 images",
    9: "flood of maximum-budget requests",
    10: "20 x SIGTERM under load",
    11: "device failures",
    12: "damaged artifacts",
    13: "idle and dripping connections",
    14: "schemathesis, 1,000 cases",
    15: "10,000 requests counted",
    16: "overload at 3 x capacity, brownout on",
    17: "a replica killed and rolled",
}
"""What is tested, by its number in the table of the reliability tests."""

Figure = Callable[[int, str], None]
"""Enters what a test measured under its row, before it judges it: a failure has a figure, too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="write the table of reliability figures here, as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = defaultdict(list)


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Figure:
    def enter(row: int, measured: str) -> None:
        assert row in ROWS
        pytestconfig.stash[FIGURES][row].append(measured)

    return enter


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[FIGURES]
    if not figures:
        return
    terminalreporter.section("reliability")
    for row in sorted(figures):
        for place, measured in enumerate(figures[row]):
            name = f"{row:2}  {ROWS[row]}" if place == 0 else ""
            terminalreporter.write_line(f"{name:48} {measured}")
    path: Path | None = config.getoption("--figures")
    if path is not None:
        lines = [f"| {row} | {ROWS[row]} | {'<br>'.join(figures[row])} |" for row in sorted(figures)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["| # | test | measured |", "|---|---|---|", *lines, ""]))
