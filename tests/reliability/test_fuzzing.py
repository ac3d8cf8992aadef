"""A coverage-guided fuzzer finds nothing in what decodes images, in seconds here and in minutes of a soak."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from figures import Figure

ROOT = Path(__file__).parent.parent.parent


def fuzz(seconds: int, folder: Path) -> tuple[int, int, int, int, str]:
    """Exit code, executions, edges that were reached, megabytes, and the end of what was printed."""
    # A child of a shell: what a process has used at most, which libFuzzer limits, begins with what its parent
    # uses as it starts it, and that may be 2 GiB here.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", "fuzz.fuzz_preprocess"]
    command += ["--seconds", str(seconds), "--findings", str(folder), "--corpus", str(folder / "corpus")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    said = done.stderr
    executed = re.findall(r"number_of_executed_units: (\d+)", said)
    edges = re.findall(r"cov: (\d+)", said)
    peak = re.findall(r"peak_rss_mb: +(\d+)", said)
    figures = (int((found or [0])[-1]) for found in (executed, edges, peak))
    return done.returncode, *figures, said[-3000:]


@pytest.mark.parametrize(
    ("seconds", "least"),
    [(10, 300), pytest.param(100, 10_000, marks=pytest.mark.soak)],
    ids=["10 s", "100 s"],
)
def test_fuzzing_finds_no_bytes_that_break_decoding(
    seconds: int, least: int, tmp_path: Path, figure: Figure
) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this platform")
    code, executed, edges, peak, said = fuzz(seconds, tmp_path)
    findings = [*tmp_path.glob("crash-*"), *tmp_path.glob("timeout-*"), *tmp_path.glob("oom-*")]
    memory = f"{peak} MB of memory at most"
    figure(
        2, f"atheris, {seconds} s: {executed:,} executions, {edges} edges, {len(findings)} findings, {memory}"
    )
    assert not findings and code == 0, said
    assert executed >= least and edges > 500, said
