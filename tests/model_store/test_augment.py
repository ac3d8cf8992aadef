"""Augmentation: what happens to pixels and labels."""

from __future__ import annotations

import pytest
import torch

from model_store.training.augment import Augmentation, Chance
from model_store.training.recipe import Recipe
from model_store.training.recipes import RECIPES

CPU = torch.device("cpu")
PLAIN = RECIPES["cifar10-fusion"].model_copy(update={"mix": 0.0, "cutout": 0})
LABELS = torch.arange(8)


def images(count: int = 8) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def augment(
    recipe: Recipe, window: int = 32, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, targets = Augmentation(recipe, CPU)(images(), LABELS, window, Chance(seed, 0, CPU))
    return batch, targets.others, targets.share


def is_part_of(small: torch.Tensor, large: torch.Tensor) -> bool:
    """Whether ``small`` or its mirror image is a window of ``large``."""
    side = small.shape[-1]
    places = range(large.shape[-1] - side + 1)
    return any(
        torch.allclose(view, large[:, y : y + side, x : x + side], atol=1e-5)
        for view in (small, small.flip(-1))
        for y in places
        for x in places
    )


def test_a_crop_is_a_window_of_the_padded_image_perhaps_mirrored() -> None:
    batch, _, _ = augment(PLAIN)
    assert batch.shape == (8, 3, 32, 32) and batch.is_contiguous(memory_format=torch.channels_last)
    clean = torch.nn.functional.pad(Augmentation(PLAIN, CPU).normalised(images()), [4] * 4)
    assert all(is_part_of(one, whole) for one, whole in zip(batch, clean, strict=True))


def test_a_small_window_lies_within_the_image() -> None:
    batch, _, _ = augment(PLAIN, window=24)
    assert batch.shape == (8, 3, 24, 24)
    clean = Augmentation(PLAIN, CPU).normalised(images())
    assert all(is_part_of(one, whole) for one, whole in zip(batch, clean, strict=True))


def test_about_half_of_the_images_are_mirrored() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).expand(200, 3, 32, 32)
    recipe = PLAIN.model_copy(update={"crop_padding": 0})
    batch, _ = Augmentation(recipe, CPU)(ramp, torch.zeros(200, dtype=torch.int64), 32, Chance(0, 0, CPU))
    falling = batch[:, 0, 0, 0] > batch[:, 0, 0, -1]
    assert 80 < int(falling.sum()) < 120


def test_processes_draw_differently_per_image_and_alike_per_batch() -> None:
    first, second = Chance(0, 0, CPU, 0), Chance(0, 0, CPU, 1)
    assert not torch.equal(first.integers(100, 50), second.integers(100, 50))
    assert first.batch.random() == second.batch.random()


def test_the_same_seed_and_epoch_repeat_and_others_differ() -> None:
    first, again, other = (augment(PLAIN, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_cutout_blanks_at_most_a_square() -> None:
    plain, _, _ = augment(PLAIN.model_copy(update={"crop_padding": 0}))
    holed, _, _ = augment(PLAIN.model_copy(update={"crop_padding": 0, "cutout": 8}))
    blank = (holed == 0).all(dim=1) & (plain != 0).any(dim=1)
    assert all(16 <= int(count) <= 64 for count in blank.sum(dim=(1, 2)))
    assert torch.equal(holed[(~blank)[:, None].expand_as(holed)], plain[(~blank)[:, None].expand_as(plain)])


@pytest.mark.parametrize("seed", range(6))
def test_a_mixed_image_is_as_much_of_each_label_as_of_each_image(seed: int) -> None:
    ones = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    ones[:4] = 255  # the reverse order pairs bright with dark
    recipe = PLAIN.model_copy(update={"mix": 1.0, "crop_padding": 0, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    batch, targets = Augmentation(recipe, CPU)(ones, LABELS, 32, Chance(seed, 0, CPU))
    assert torch.equal(targets.others, LABELS.flip(0))
    bright = batch.mean(dim=(1, 2, 3))
    torch.testing.assert_close(bright[:4], targets.share[:4], atol=1e-3, rtol=0)
    torch.testing.assert_close(bright[4:], 1 - targets.share[4:], atol=1e-3, rtol=0)
