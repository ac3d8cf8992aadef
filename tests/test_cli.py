"""The command line as a user meets it: output on standard output, errors as one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from model_store.store import EMBEDDED, Store
from service.cli import main
from service.settings import Settings


def exitramp(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "exitramp"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )


def test_models_lists_the_embedded_artifacts_with_their_exits() -> None:
    listed = json.loads(exitramp("models", "--json").stdout)
    known = [(name, version) for name, versions in Store(EMBEDDED).versions().items() for version in versions]
    assert [(manifest["name"], manifest["version"]) for manifest in listed] == known
    latest = {manifest["name"]: manifest for manifest in listed}["cifar10-fusion"]
    assert len(latest["exits"]) == 7 and all(spec["accuracy"] > 0.85 for spec in latest["exits"])
    shown = exitramp("models").stdout
    assert "53,810,944" in shown and "64,220,416" in shown


def test_what_is_served_by_default_is_embedded_and_cifar10_comes_first() -> None:
    manifests = [Store(EMBEDDED).read_manifest(name) for name in Settings().models]
    assert manifests[0].task == "cifar10"
    assert len({manifest.task for manifest in manifests}) == len(manifests)


def test_errors_are_one_line_and_a_failing_exit_code(tmp_path: Path) -> None:
    for arguments, told in [
        (("train", "nonesuch", "--data", "x"), "unknown recipe"),
        (("train", "cifar10-fusion", "--data", str(tmp_path)), "neither train-"),
        (("evaluate", "nonesuch", "--data", "x"), "no artifact nonesuch"),
        (("evaluate", "cifar10-fusion@x", "--data", "x"), "name@version"),
        (("calibrate", "cifar10-fusion@99", "--data", "x"), "cifar10-fusion@99"),
    ]:
        done = exitramp(*arguments)
        assert done.returncode == 1 and done.stdout == "", arguments
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("exitramp: ") and told in line


def test_a_list_that_is_not_json_is_one_line() -> None:
    done = exitramp("serve", EXITRAMP_MODELS="cifar10-fusion")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("exitramp: EXITRAMP_") and '"models"' in line and '["cifar10-fusion"]' in line


def test_help_names_every_command() -> None:
    shown = exitramp("--help").stdout
    for command in (
        "serve",
        "models",
        "train",
        "means",
        "calibrate",
        "evaluate",
        "prune",
        "quantize",
        "import",
        "compare",
        "latency",
        "frontier",
        "bench",
    ):
        assert re.search(rf"^│ {command} ", shown, re.MULTILINE), command


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        with open("/dev/full", "w") as file:
            file.write("what does not fit")

    with pytest.raises(SystemExit) as ended:
        main(write)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "exitramp: writing: No space left on device\n"
