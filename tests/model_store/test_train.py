"""Training: what is learnt, resumed, averaged and published. Tiny networks and images of two colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model_store import nets
from model_store.training.data import DataError, Rows, Split, load_split
from model_store.training.optimizers import rate_share
from model_store.training.publish import make_artifact, provenance
from model_store.training.recipe import Recipe
from model_store.training.recipes import RECIPES
from model_store.training.scores import EagerRunner, collect_path
from model_store.training.train import Run

SMALL = Recipe(
    task="colours",
    network="fusion",
    arguments={"num_classes": 2, "channels": 8, "growth": 4, "layers_per_block": [1, 1]},
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    epochs=3,
    batch_size=32,
    learning_rate=0.02,
    warmup_epochs=0.5,
    ema_decay=0.5,
    small_px=24,
    small_epochs=1,
)


def colours(count: int = 128) -> Rows:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randint(0, 100, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images[torch.arange(count), labels] += 120
    return Rows(images, labels, ("red", "green"), "colours/train")


def weights(run: Run) -> torch.Tensor:
    """Of the trained network and of its average."""
    states = (*run.net.state_dict().values(), *run.average.state_dict().values())
    return torch.cat([value.flatten().double() for value in states])


def accuracies(run: Run) -> list[float]:
    runner = EagerRunner(run.averaged_net(), SMALL.mean, SMALL.std)
    return collect_path(runner, (0, 1), colours()).correct.mean(axis=1).tolist()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(SMALL, colours(), tmp_path, compile_net=False)


@pytest.mark.parametrize(
    "means",
    [
        {},
        {"optimizer": "sgd", "clip_norm": 5.0, "equilibrium": True, "ema_decay": 0.0, "decay": "cosine"},
        {"self_distillation": 0.5, "label_smoothing": 0.1, "cutout": 4},
        {"mix": 0.5},
    ],
)
def test_two_colours_are_learnt_by_whichever_means(means: dict[str, Any], tmp_path: Path) -> None:
    run = Run(SMALL.changed(**means), colours(), tmp_path, compile_net=False)
    losses: list[float] = []
    while not run.done:
        run.train_epoch(lambda progress: losses.append(progress.loss))
    assert len(losses) == 3
    if "mix" not in means:  # the loss of a mixed batch says little
        assert losses[-1] < losses[0]
    assert accuracies(run) == [1.0, 1.0]


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    recipe = SMALL.changed(mix=0.5, cutout=4)
    run = Run(recipe, colours(), tmp_path / "whole", compile_net=False)
    while not run.done:
        run.train_epoch()
    for _ in range(recipe.epochs):
        resumed = Run(recipe, colours(), tmp_path / "parts", compile_net=False)
        resumed.train_epoch()
    assert resumed.done
    torch.testing.assert_close(weights(resumed), weights(run))


def test_a_checkpoint_of_another_recipe_seed_or_data_set_is_refused(run: Run, tmp_path: Path) -> None:
    run.train_epoch()
    for recipe, rows, seed in (
        (SMALL, colours(), 1),
        (SMALL.changed(epochs=4), colours(), 0),
        (SMALL, replace(colours(), source="others/train"), 0),
    ):
        with pytest.raises(ValueError, match="another recipe, seed or data set"):
            Run(recipe, rows, tmp_path, seed=seed, compile_net=False)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_comes_back_from_a_checkpoint_as_it_was(recipe: Recipe) -> None:
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_arguments_that_a_checkpoint_cannot_hold_are_refused() -> None:
    for value in (torch.float32, float("inf")):
        with pytest.raises(ValueError, match="arguments"):
            SMALL.changed(arguments={"num_classes": value})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 1}, "too few"),
        ({"small_px": 0}, "needs small_px"),
        ({"teacher_weight": 0.5}, "need each other"),
        ({"teacher": "cifar10-teacher"}, "need each other"),
        ({"teacher_once": True}, "needs a teacher"),
        ({"teacher_with_start": True, "teacher": "any", "teacher_weight": 0.5}, "a teacher and a start"),
        ({"teacher_once": True, "teacher": "any", "teacher_weight": 0.5, "mix": 0.5}, "has to see mixtures"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SMALL.changed(**changes)


@pytest.mark.parametrize(
    ("recipe", "rows", "reason"),
    [
        (SMALL, colours(31), "as many rows"),
        (SMALL, replace(colours(), images=colours().images[..., :24]), "square"),
        (SMALL.changed(start="other"), colours(), "start is other, but no network"),
        (SMALL.changed(teacher="t", teacher_weight=0.5), colours(), "teacher is t, but no network"),
    ],
)
def test_a_run_that_would_not_follow_its_recipe_is_refused(
    recipe: Recipe, rows: Rows, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        Run(recipe, rows, tmp_path, compile_net=False)


def test_the_published_statistics_are_those_of_clean_training_images(run: Run) -> None:
    while not run.done:
        run.train_epoch()
    net, rows = run.averaged_net(), colours()
    entry = net.blocks[0].layers[0].entry  # type: ignore[index, union-attr]
    clean = run.augmentation.normalised(rows.images)
    mean = entry[0](clean).mean(dim=(0, 2, 3))
    torch.testing.assert_close(entry[1].running_mean, mean, rtol=0.05, atol=0.01)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    recipe = SMALL.changed(warmup_epochs=1, epochs=10)
    shares = [rate_share(step, recipe, 10) for step in range(101)]
    assert shares[9] == pytest.approx(1) == max(shares)
    assert shares[:10] == sorted(shares[:10]) and shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(0)


def test_boosted_exits_are_not_published(tmp_path: Path) -> None:
    recipe = SMALL.changed(boost=0.5)
    run = Run(recipe, colours(), tmp_path, compile_net=False)
    split = Split(colours(), colours(), colours())
    with pytest.raises(ValueError, match="cannot be served"):
        make_artifact("boosted", 1, run.averaged_net(), recipe, split, provenance(run, split, "test"), print)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "means",
    [{"mix": 0.5}, {"start": "small", "teacher_with_start": True, "teacher_once": True}],
)
def test_a_compiled_run_on_a_gpu_learns_with_a_teacher_and_resumes(
    means: dict[str, Any], tmp_path: Path
) -> None:
    teacher = Run(SMALL, colours(), tmp_path / "teacher")
    while not teacher.done:
        teacher.train_epoch()
    recipe = SMALL.changed(teacher="small", teacher_weight=0.5, epochs=4, **means)
    taught_by = teacher.averaged_net()
    start = taught_by if recipe.start else None
    for _ in range(recipe.epochs):
        run = Run(recipe, colours(), tmp_path / "run", start=start, teacher=taught_by)
        run.train_epoch()
    assert run.device.type == "cuda" and run.done
    assert accuracies(run) == [1.0, 1.0]


def test_the_recipes_name_networks_that_build() -> None:
    for recipe in RECIPES.values():
        net = nets.build(recipe.network, recipe.arguments)
        assert net(torch.zeros(2, 3, 32, 32))[-1].shape == (2, recipe.arguments["num_classes"])


def test_a_folder_without_data_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither train-"):
        load_split(str(tmp_path))
