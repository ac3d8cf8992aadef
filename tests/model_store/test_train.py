"""Training: what is learnt, resumed, averaged and published. Tiny networks and images of two colours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model_store.training import train
from model_store.training.data import DataError, Rows, load_split
from model_store.training.recipes import RECIPES, Recipe
from model_store.training.steps import cycle_rate, exit_accuracies
from model_store.training.train import Run

SMALL = Recipe(
    task="colours",
    network="fusion",
    arguments={"num_classes": 2, "channels": 8, "growth": 4, "layers_per_block": [1, 1]},
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    epochs=2,
    restarts=1,
    restart_epochs=1,
    batch_size=32,
    learning_rate=0.02,
    warmup_epochs=0.5,
    ema_decay=0.5,
)


def colours(count: int = 128) -> Rows:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randint(0, 100, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images[torch.arange(count), labels] += 120
    return Rows(images, labels, ("red", "green"), "colours/train")


def weights(run: Run) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in run.net.state_dict().values()])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(SMALL, colours(), tmp_path, compile_net=False)


def test_two_colours_are_learnt_and_the_loss_is_reported(run: Run) -> None:
    losses: list[float] = []
    while not run.done:
        run.train_epoch(lambda progress: losses.append(progress.loss))
    assert losses[-1] < losses[0]
    assert exit_accuracies(run.published_net(), colours(), SMALL) == [1.0, 1.0]


def test_a_resumed_run_is_the_uninterrupted_run(run: Run, tmp_path: Path) -> None:
    while not run.done:
        run.train_epoch()
    other = tmp_path / "other"
    for _ in range(SMALL.epochs + 1):
        resumed = Run(SMALL, colours(), other, compile_net=False)
        resumed.train_epoch()
    assert resumed.done
    torch.testing.assert_close(weights(resumed), weights(run))


def test_a_checkpoint_of_another_recipe_or_seed_is_refused(run: Run, tmp_path: Path) -> None:
    run.train_epoch()
    with pytest.raises(ValueError, match="another recipe or seed"):
        Run(SMALL, colours(), tmp_path, seed=1, compile_net=False)
    with pytest.raises(ValueError, match="another recipe or seed"):
        Run(SMALL.model_copy(update={"epochs": 3}), colours(), tmp_path, compile_net=False)


def test_after_a_restart_the_published_weights_are_the_mean_of_both_cycles(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "BATCH_NORM_ROWS", 64)
    ends = []
    while not run.done:
        run.train_epoch()
        if run.epoch in (2, 3):
            ends.append(run.average.module.state_dict()["heads.0.linear.weight"].clone())
    published = run.published_net().state_dict()["heads.0.linear.weight"]
    torch.testing.assert_close(published, (ends[0] + ends[1]) / 2)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [cycle_rate(step, 100, 10, SMALL) for step in range(101)]
    assert rates[9] == pytest.approx(SMALL.learning_rate) == max(rates)
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)


def test_an_augmented_image_is_a_shifted_and_perhaps_mirrored_copy(run: Run) -> None:
    images = colours(2).images
    straight = run._augment(images, torch.tensor([[4, 4], [4, 4]]), torch.tensor([False, True]))
    expected = (images.float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(straight[0], expected[0])
    torch.testing.assert_close(straight[1], expected[1].flip(-1))
    shifted = run._augment(images, torch.tensor([[0, 4], [8, 4]]), torch.tensor([False, False]))
    torch.testing.assert_close(shifted[0, :, 4:], expected[0, :, :-4])
    assert not shifted[0, :, :4].any() and not shifted[1, :, -4:].any()


def test_the_embedded_recipes_name_networks_that_build() -> None:
    from model_store import nets

    for recipe in RECIPES.values():
        assert nets.build(recipe.network, recipe.arguments).stages == 7


def test_a_folder_without_data_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither train-"):
        load_split(str(tmp_path))
