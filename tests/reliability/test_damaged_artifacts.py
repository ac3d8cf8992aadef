"""Damaged artifacts: no server starts with one, and a server that runs takes none in."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conftest import SmallStore
from damages import INT8, SMALL, Damage
from figures import Figure
from live import START_S, Server, serving, start
from open_inference import ADMIN, settings_of
from steady import asking

from model_store import EMBEDDED

DAMAGES = {**SMALL, **INT8}
INT8_NAME = "cifar10-fusion"


def artifact_of(what: str, root: Path, small: Path) -> Path:
    """Folder of a new copy of what ``what`` can happen to, in the store ``root``."""
    source = small / "small" if what in SMALL else EMBEDDED / INT8_NAME
    shutil.copytree(source, root / source.name)
    (folder,) = (root / source.name).iterdir()
    return folder


def settings_for(folder: Path, workers: int = 1) -> dict[str, str]:
    """Of a server that has nothing but the artifact in ``folder``, int8 if it can."""
    name = folder.parent.name
    cuts = {"EXECUTOR": "openvino", "PRECISION": "int8"} if name == INT8_NAME else {}
    more = {"CACHE_DIR": str(folder.parents[1] / ".cache"), "HTTP_WORKERS": str(workers)}
    return {**settings_of(folder.parents[1], name), **cuts, **more}


def refused(settings: Mapping[str, str], named: Path, reason: str) -> str:
    """What is wrong with the end of a server with these settings; nothing, if it is as it must be."""
    process = start(settings)
    try:
        _, said = process.communicate(timeout=START_S)
    finally:
        process.kill()
    told = [line for line in said.splitlines() if not line.startswith("{")]
    events = {json.loads(line)["event"] for line in said.splitlines() if line.startswith("{")}
    if process.returncode == 0 or "ready" in events:
        return f"exit {process.returncode}, {events}"
    clear = len(told) == 1 and told[0].startswith(f"exitramp: {named}") and reason in told[0]
    return "" if clear else said


def starts(what: Mapping[str, Damage], workers: int, tmp_path: Path, small: Path) -> dict[str, str]:
    """Of each damage with which a server did not end as it must, what it did."""
    wrong = {}
    for number, (name, damage) in enumerate(what.items()):
        folder = artifact_of(name, tmp_path / f"{workers}-{number}", small)
        damage.make(folder)
        if said := refused(settings_for(folder, workers), folder / damage.file, damage.reason):
            wrong[name] = said
    return wrong


def test_a_server_with_a_damaged_artifact_ends_with_one_clear_line(
    small_store: SmallStore, tmp_path: Path
) -> None:
    for workers, name in ((1, "manifest missing"), (2, "weights of NaN")):
        assert starts({name: SMALL[name]}, workers, tmp_path, small_store.root) == {}


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_with_any_damage_ends_with_one_clear_line(
    workers: int, small_store: SmallStore, tmp_path: Path, figure: Figure
) -> None:
    # Behind a supervisor a start takes three times as long, and what reads artifacts is the same.
    damages = dict(list(DAMAGES.items())[:: 1 if workers == 1 else 3])
    wrong = starts(damages, workers, tmp_path, small_store.root)
    count, right = len(damages), len(damages) - len(wrong)
    figure(
        12, f"{count} damages, {workers} HTTP processes: {right} exits ≠ 0 with one clear line, never ready"
    )
    assert wrong == {}


def test_what_serves_goes_on_whatever_is_wrong_with_its_successor(
    tmp_path: Path, small_store: SmallStore, png: Callable[[int], bytes], figure: Figure
) -> None:
    """One server has both kinds of models, so that all damages can be tried on it."""
    root = tmp_path / "store"
    artifact_of("weights missing", root, small_store.root)
    artifact_of("int8 record no JSON", root, small_store.root)
    settings = {
        **settings_of(root, "small", INT8_NAME),
        **{"EXECUTOR": "openvino", "PRECISION": "int8", "CACHE_DIR": str(tmp_path / "cache")},
    }
    outcomes: Counter[str] = Counter()
    with serving(settings) as server, asking(server.url, png(0), rate=20) as answers:
        for what, damage in DAMAGES.items():
            outcomes[what] += _reload_in_vain(server, what, damage, root)
        answers.await_more(20)
        versions = {model["version"] for model in server.client.get("/models").json()["models"]}
    kept = sum(outcomes.values())
    figure(
        12,
        f"{len(DAMAGES)} damaged successors of what serves: {kept} reloads refused, "
        f"{len(answers.failures)} of {len(answers.statuses)} requests failed meanwhile",
    )
    assert kept == len(DAMAGES), outcomes
    assert not answers.failures and versions == {1, 3}


def _reload_in_vain(server: Server, what: str, damage: Damage, root: Path) -> bool:
    """Whether the server refuses to load a damaged next version, and names its file to the administrator."""
    name = "small" if what in SMALL else INT8_NAME
    (present,) = (root / name).iterdir()
    version = int(present.name) + 1
    folder = _next_version(present)
    damage.make(folder)
    answer = server.client.post(f"/v2/repository/models/{name}/load", headers=ADMIN)
    shutil.rmtree(folder)
    told = answer.json().get("error", "")
    return answer.status_code == 400 and f"{name}/{version}/{damage.file}" in told and damage.reason in told


def _next_version(folder: Path) -> Path:
    """The same artifact once more, a version later."""
    version = int(folder.name) + 1
    copy = folder.with_name(str(version))
    shutil.copytree(folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "version": version}))
    return copy
