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


def fuzz(seconds: int, folder: Path) -> tuple[int, int, int, str]:
    """Exit code, executions, edges of the code that were reached, and the end of what was printed."""
    command = [sys.executable, "-m", "fuzz.fuzz_preprocess", "--seconds", str(seconds)]
    command += ["--findings", str(folder), "--corpus", str(folder / "corpus")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    said = done.stderr
    executed = re.findall(r"number_of_executed_units: (\d+)", said)
    edges = re.findall(r"cov: (\d+)", said)
    return done.returncode, int((executed or [0])[-1]), int((edges or [0])[-1]), said[-3000:]


@pytest.mark.soak
@pytest.mark.parametrize(("seconds", "least"), [(10, 300), (180, 10_000)], ids=["10 s", "180 s"])
def test_fuzzing_finds_no_bytes_that_break_decoding(
    seconds: int, least: int, tmp_path: Path, figure: Figure
) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this platform")
    code, executed, edges, said = fuzz(seconds, tmp_path)
    findings = [*tmp_path.glob("crash-*"), *tmp_path.glob("timeout-*"), *tmp_path.glob("oom-*")]
    figure(2, f"atheris, {seconds} s: {executed:,} executions, {edges} edges, {len(findings)} findings")
    assert not findings and code == 0, said
    assert executed >= least and edges > 500, said
