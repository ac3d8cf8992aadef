"""Artifacts: published whole or not at all, and every broken one a clear error."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import SmallStore, small_manifest, small_net, small_policy
from damages import SMALL, Damage, rehash

from model_store import nets
from model_store.store import (
    ArtifactBroken,
    ArtifactExists,
    ArtifactNotFound,
    Store,
    encode_weights,
    with_policy,
)
from model_store.verify import build_net


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


@pytest.mark.parametrize("damage", SMALL.values(), ids=SMALL.keys())
def test_a_broken_artifact_is_one_clear_line_that_names_the_file(folder: Path, damage: Damage) -> None:
    damage.make(folder)
    with pytest.raises(ArtifactBroken, match=re.escape(damage.reason)) as caught:
        Store(folder.parent.parent).load("small")
    assert str(caught.value).startswith(str(folder / damage.file)) and "\n" not in str(caught.value)


def test_a_damaged_latest_version_is_no_reason_to_take_the_one_before(folder: Path) -> None:
    store = Store(folder.parent.parent)
    (store.publish(*small_manifest(small_net(2), version=2)) / "manifest.json").unlink()
    with pytest.raises(ArtifactBroken, match=r"small/2/manifest\.json: No such file"):
        store.load("small")
    assert store.next_version("small") == 3


def test_images_that_the_network_does_not_take_are_a_clear_error(tmp_path: Path) -> None:
    arguments = {"num_classes": 10, "side": 8}
    other = small_manifest(small_net())[0].model_copy(update={"network": "vggnet5", "arguments": arguments})
    tensors = dict(nets.build("vggnet5", arguments).state_dict())
    with pytest.raises(ArtifactBroken, match=r"manifest\.json: images of \(32, 32\) are not for the network"):
        build_net(other, tensors, tmp_path)


def test_tensors_of_another_network_are_a_clear_error(folder: Path) -> None:
    net = small_net()
    net.heads[0].linear = torch.nn.Linear(128, 10, bias=False)  # type: ignore[union-attr]
    rehash(folder, encode_weights(net))
    with pytest.raises(ArtifactBroken, match="tensors do not fit") as caught:
        Store(folder.parent.parent).load("small")
    assert len(str(caught.value)) < 1000, "not the whole list of tensors"


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
