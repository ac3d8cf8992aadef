"""The offline measurement for GPUs, on the processor: that it measures and reports, whatever the numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import SmallStore

from deploy.gpu.offline import main

ROOT = Path(__file__).parent.parent.parent


def test_every_span_of_the_default_path_is_timed_at_every_size(
    small_store: SmallStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ("--models", "small", "--store", str(small_store.root), "--sizes", "1", "3", "--rounds", "1")
    assert main(("--out", str(tmp_path / "new"), *options)) == 0
    report = json.loads((tmp_path / "new" / "offline.json").read_text())
    spans = {row["span"] for row in report["rows"]}
    assert "all" in spans and len(report["rows"]) == 2 * len(spans) > 2
    for row in report["rows"]:
        assert set(row["milliseconds"]) == {"eager float32", "eager bfloat16", "eager"}
        assert min(row["milliseconds"].values()) > 0 and 0 < row["difference"] < 0.05
    assert report["device"] == "processor" and report["gain_at_64"] == {}
    text = (tmp_path / "new" / "offline.md").read_text()
    assert text == capsys.readouterr().out and text.count("| small@1 |") == len(report["rows"])


def test_the_session_is_a_sound_script_and_says_what_it_wants() -> None:
    script = ROOT / "deploy/gpu/session.sh"
    subprocess.run(["bash", "-n", script], check=True)
    refused = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "usage" in refused.stderr
