"""What the command line finds for a recipe: what it starts from, and its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import SmallStore

from model_store import nets
from model_store.store import EMBEDDED, ArtifactNotFound
from model_store.training.recipe import Recipe
from model_store.training.recipes import RECIPES
from service.cli.options import Failure
from service.cli.recipes import start_of, teacher_of

BASE = RECIPES["cifar10-fusion-control"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe called ``short``."""
    recipe = BASE.changed(epochs=1, small_epochs=0, warmup_epochs=0)
    monkeypatch.setattr("model_store.training.recipes.RECIPES", {"short": recipe})
    return recipe


def finish(recipe: Recipe, folder: Path, epoch: int) -> torch.nn.Module:
    """Write the checkpoint of a run after some epochs; returns its network."""
    net = nets.build(recipe.network, recipe.arguments)
    average = {f"module.{key}": value for key, value in net.state_dict().items()}
    state = {
        "recipe": recipe.model_dump_json(),
        "epoch": epoch,
        "average": {"n_averaged": torch.tensor(1), **average},
    }
    folder.mkdir(parents=True)
    torch.save(state, folder / "checkpoint.pt")
    return net


def test_an_artifact_teaches(small_store: SmallStore, tmp_path: Path) -> None:
    recipe = BASE.changed(teacher="small@1", teacher_weight=0.5)
    net = teacher_of(recipe, small_store.root, tmp_path)
    assert net is not None
    torch.testing.assert_close(net.state_dict(), small_store.artifact.net.state_dict())


def test_a_recipe_starts_from_an_artifact_of_the_store_or_an_embedded_one(
    small_store: SmallStore, tmp_path: Path
) -> None:
    net = start_of(BASE.changed(start="small@1"), small_store.root, tmp_path)
    assert net is not None
    torch.testing.assert_close(net.state_dict(), small_store.artifact.net.state_dict())
    version = max(int(path.name) for path in (EMBEDDED / "cifar10-fusion").iterdir())
    embedded = start_of(BASE.changed(start=f"cifar10-fusion@{version}"), small_store.root, tmp_path)
    assert embedded is not None and embedded.stages == 7


@pytest.mark.parametrize("find", ["start", "teacher"])
def test_a_finished_run_is_a_start_or_a_teacher(find: str, short: Recipe, tmp_path: Path) -> None:
    trained = finish(short, tmp_path / "short", epoch=1)
    if find == "start":
        net = start_of(BASE.changed(start="short"), tmp_path, tmp_path)
    else:
        net = teacher_of(BASE.changed(teacher="short", teacher_weight=0.5), tmp_path, tmp_path)
    assert net is not None
    torch.testing.assert_close(net.state_dict(), trained.state_dict())


def test_neither_start_nor_teacher_unless_the_recipe_names_them(tmp_path: Path) -> None:
    assert start_of(BASE, tmp_path, tmp_path) is None and teacher_of(BASE, tmp_path, tmp_path) is None


def test_what_is_not_there_is_named(short: Recipe, small_store: SmallStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exitramp train short --no-publish --data DIR --runs"):
        start_of(BASE.changed(start="short"), tmp_path, tmp_path)
    finish(short, tmp_path / "short", epoch=0)
    with pytest.raises(ValueError, match="no finished run"):
        start_of(BASE.changed(start="short"), tmp_path, tmp_path)
    with pytest.raises(Failure, match="unknown recipe 'shorter'; known: short"):
        start_of(BASE.changed(start="shorter"), tmp_path, tmp_path)
    with pytest.raises(ArtifactNotFound, match="small"):
        start_of(BASE.changed(start="small@2"), small_store.root, tmp_path)
