"""Artifacts: published whole or not at all, and every broken one a clear error."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SmallStore, small_manifest, small_net, small_policy

from model_store.store import (
    ArtifactBroken,
    ArtifactExists,
    ArtifactNotFound,
    Store,
    encode_weights,
    weights_sha256,
    with_policy,
)


@pytest.fixture
def folder(small_store: SmallStore, tmp_path: Path) -> Path:
    """A copy of the small artifact's folder, to be broken."""
    shutil.copytree(small_store.root, tmp_path / "store")
    return tmp_path / "store" / "small" / "1"


def test_what_is_published_is_loaded_back_to_half_precision(small_store: SmallStore) -> None:
    net = small_net()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        for loaded, original in zip(small_store.artifact.net(images), net(images), strict=True):
            torch.testing.assert_close(loaded.softmax(1), original.softmax(1), rtol=0, atol=0.1)
    assert not small_store.artifact.net.training


def test_a_version_is_published_once(small_store: SmallStore) -> None:
    manifest, weights = small_manifest(small_net())
    with pytest.raises(ArtifactExists, match="small@1 is published already"):
        Store(small_store.root).publish(manifest, weights)
    assert [entry.name for entry in (small_store.root / "small").iterdir()] == ["1"], "no remains"


def test_the_latest_version_is_the_default(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        Store(tmp_path).publish(*small_manifest(small_net(version), version=version))
    store = Store(tmp_path)
    assert store.versions() == {"small": [1, 2, 10]}
    assert store.load("small").manifest.version == 10
    assert store.load("small", 2).manifest.version == 2
    assert store.next_version("small") == 11
    assert store.next_version("other") == 1


@pytest.mark.parametrize(("name", "version"), [("other", None), ("small", 7)])
def test_an_unknown_artifact_is_not_found(small_store: SmallStore, name: str, version: int | None) -> None:
    with pytest.raises(ArtifactNotFound, match="there are: small@1"):
        Store(small_store.root).load(name, version)


def rewrite(folder: Path, change: Callable[[dict], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rehash(folder: Path, weights: bytes) -> None:
    (folder / "model.safetensors").write_bytes(weights)
    rewrite(folder, lambda manifest: manifest.update(weights_sha256=weights_sha256(weights)))


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def nan(folder: Path) -> None:
    net = small_net()
    with torch.no_grad():
        net.heads[0].linear.weight[0, 0] = float("nan")  # type: ignore[union-attr, operator]
    rehash(folder, encode_weights(net))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "SHA-256"),
    "a pickle": (lambda folder: rehash(folder, pickle.dumps({"a": 1})), "not a safetensors file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "No such file"),
    "no JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "not a valid manifest"),
    "an unknown field": (lambda folder: rewrite(folder, lambda m: m.update(extra=1)), "extra"),
    "another name": (lambda folder: rewrite(folder, lambda m: m.update(name="tiny")), "says it is tiny@1"),
    "another network": (lambda folder: rewrite(folder, lambda m: m.update(network="x")), "unknown network"),
    "other shapes": (
        lambda folder: rewrite(folder, lambda m: m["arguments"].update(num_classes=11)),
        "tensors do not fit",
    ),
    "other FLOPs": (lambda folder: rewrite(folder, lambda m: m["exits"][0].update(head_flops=1)), "FLOPs"),
    "an exit that is not there": (
        lambda folder: rewrite(folder, lambda m: m["policy"]["segments"][0].update(exits=[1, 2, 9])),
        "exit 9",
    ),
    "NaN weights": (nan, "not finite"),
}


@pytest.mark.parametrize(("break_it", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_artifact_is_a_clear_error(
    folder: Path, break_it: Callable[[Path], object], reason: str
) -> None:
    break_it(folder)
    with pytest.raises(ArtifactBroken, match=reason) as caught:
        Store(folder.parent.parent).load("small")
    assert "\n" not in str(caught.value)


def test_tensors_of_another_network_are_a_clear_error(folder: Path) -> None:
    net = small_net()
    net.heads[0].linear = torch.nn.Linear(128, 10, bias=False)  # type: ignore[union-attr]
    rehash(folder, encode_weights(net))
    with pytest.raises(ArtifactBroken, match="tensors do not fit"):
        Store(folder.parent.parent).load("small")


def test_a_new_policy_leaves_the_weights_alone_and_changes_the_id(folder: Path) -> None:
    store = Store(folder.parent.parent)
    old = store.read_manifest("small")
    before = (folder / "model.safetensors").read_bytes()
    store.replace_manifest(with_policy(old, small_policy(small_net(), exits=(1, 3))))
    assert (folder / "model.safetensors").read_bytes() == before
    assert store.load("small").manifest.policy.id != old.policy.id


def test_a_new_manifest_for_other_weights_is_refused(folder: Path) -> None:
    store = Store(folder.parent.parent)
    other, _ = small_manifest(small_net(seed=5))
    with pytest.raises(ArtifactBroken, match="cannot change the weights"):
        store.replace_manifest(other)
