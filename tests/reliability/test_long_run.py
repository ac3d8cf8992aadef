"""For minutes at 70 % of what it can do the service fails nobody, gives right answers and does not grow."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from figures import Figure
from live import serving
from offline import Offline, encoded_images

from loadtest.soak import BUDGETS, GROWTH_MIB, kind

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("SOAK_SECONDS", "300"))
"""Length of the long run; set it for a whole night."""

MODEL = "cifar10-fusion"
SUFFIXES = {"M": 1e6}


def flops(text: str | None) -> float | None:
    return None if text is None else float(text[:-1]) * SUFFIXES[text[-1]]


def offline_answers(offline: Offline) -> dict[str, Any]:
    """The table of ``loadtest.soak``: which exit answers is the ledger's to move, what it says is not."""
    plans = {
        kind(headers): (flops(headers.get("X-FLOP-Budget")), flops(headers.get("X-FLOP-Limit")))
        for headers in BUDGETS
    }
    return {
        hashlib.sha256(content).hexdigest(): {
            name: offline.alone(number, *plan).exits for name, plan in plans.items()
        }
        for number, content in enumerate(offline.files)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and what is right about them."""
    folder = tmp_path_factory.mktemp("soak")
    offline = Offline(MODEL, encoded_images())
    (folder / "images" / "natural").mkdir(parents=True)
    for number, content in enumerate(offline.files):
        (folder / "images" / "natural" / f"{number:03}").write_bytes(content)
    (folder / "answers.json").write_text(json.dumps(offline_answers(offline)))
    return folder


def soak(folder: Path, out: Path, *options: str) -> dict[str, Any]:
    with serving({"MODELS": f'["{MODEL}"]'}) as server:
        command = [
            sys.executable,
            "-m",
            "loadtest.soak",
            "--url",
            server.url,
            "--pid",
            str(server.process.pid),
        ]
        command += ["--users", "8", "--answers", str(folder / "answers.json"), "--out", str(out), *options]
        command += ["--data", str(folder / "images")]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (out / "soak.json").exists(), ended.stderr[-2000:]
    told: dict[str, Any] = json.loads((out / "soak.json").read_text())
    return told


def said(told: dict[str, Any], seconds: float) -> str:
    grown, (first_ms, last_ms) = told["growth"], told["p99_ms"]
    return (
        f"{seconds:.0f} s, 8 users, {told['rate']:.0f}/s, seven budgets: {told['statuses']}; after warm-up "
        f"memory {grown['resident_mib']:+.1f} MiB, descriptors {grown['descriptors']:+.1f}, threads "
        f"{grown['threads']:+.1f}; p99 {first_ms} ms in the first step, {last_ms} in the last"
    )


def test_under_mixed_budgets_every_answer_is_right(folder: Path, tmp_path: Path, figure: Figure) -> None:
    options = ("--seconds", "12", "--warm-up", "4", "--step", "4", "--capacity-seconds", "2")
    told = soak(folder, tmp_path, *options)
    figure(1, said(told, 12))
    assert set(told["statuses"]) == {"200"} and told["sent"] > 100


@pytest.mark.soak
def test_for_minutes_nothing_fails_and_nothing_grows(folder: Path, figure: Figure) -> None:
    told = soak(folder, ROOT / "build" / "reliability", "--seconds", str(SECONDS))
    figure(1, said(told, SECONDS))
    assert set(told["statuses"]) == {"200"}
    assert told["growth"]["resident_mib"] <= GROWTH_MIB
    assert abs(told["growth"]["descriptors"]) <= 2 and abs(told["growth"]["threads"]) <= 1
