"""How busy a card was, as NVIDIA's own program tells it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.graphics_card import card_use


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipe from which one line comes as soon as a program called nvidia-smi has said two numbers."""
    pipe, program = tmp_path / "told", tmp_path / "nvidia-smi"
    os.mkfifo(pipe)
    program.write_text(f"#!/bin/sh\nprintf '40\\n60\\n'\necho \"$@\" > {pipe}\nexec cat {pipe}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return pipe


def test_samples_are_taken_until_the_end_of_the_block(told: Path) -> None:
    with card_use(wanted=True) as samples:
        assert "--query-gpu=utilization.gpu" in told.read_text()
    assert samples == [40.0, 60.0]


def test_nothing_runs_where_there_is_nothing_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with card_use(wanted=False) as samples:
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with card_use(wanted=True) as missing:
        pass
    assert samples == missing == []
