"""The comparison of means: equal lengths, one change at a time, honest gains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_train import SMALL, colours

from model_store.training.means import MEANS, compare_means, recipe_of
from model_store.training.recipe import Recipe
from model_store.training.recipes import RECIPES
from model_store.training.train import Progress

BASE = RECIPES["cifar100-fusion"].changed(teacher="any", teacher_weight=0.7, teacher_once=True)


def changes(recipe: Recipe, other: Recipe) -> set[str]:
    return {name for name in Recipe.model_fields if getattr(recipe, name) != getattr(other, name)}


@pytest.mark.parametrize("name", [name for name, (against, _) in MEANS.items() if against is not None])
def test_each_entry_changes_what_it_says_and_nothing_else(name: str) -> None:
    against, wanted = MEANS[name]
    assert against is not None
    found = changes(recipe_of(name, BASE, 10), recipe_of(against, BASE, 10))
    named = {"arguments" if change == "activation" else change for change in wanted}
    assert found == (named | {"teacher", "teacher_once"} if "teacher_weight" in named else named)


def test_an_entry_about_a_teacher_needs_one() -> None:
    untaught = RECIPES["cifar10-fusion-control"]
    with pytest.raises(ValueError, match="needs a recipe with a teacher"):
        recipe_of("Muon, EMA, teacher", untaught, 10)


def test_all_are_of_one_length_and_start_from_nothing() -> None:
    recipes = [recipe_of(name, BASE, 10) for name in MEANS]
    assert {(recipe.epochs, recipe.start, recipe.batch_size) for recipe in recipes} == {(10, None, 128)}
    assert recipe_of("Muon, EMA, small windows", BASE, 10).small_epochs == 6


def test_an_entry_comes_after_what_it_is_compared_with() -> None:
    names = list(MEANS)
    assert all(
        against is None or names.index(against) < names.index(name) for name, (against, _) in MEANS.items()
    )


def test_gains_are_paired_with_the_run_that_is_named(tmp_path: Path) -> None:
    seen: list[tuple[str, Progress]] = []
    results = compare_means(
        SMALL,
        colours(),
        colours(64),
        tmp_path,
        2,
        ("plain", "Muon"),
        compile_net=False,
        report=lambda name, progress: seen.append((name, progress)),
    )
    plain, muon = results
    assert (plain.gain, plain.error, muon.against) == (None, None, "plain")
    assert muon.gain == pytest.approx(np.mean(muon.accuracies) - np.mean(plain.accuracies))
    assert plain.images == muon.images == 2 * 128
    assert {name for name, _ in seen} == {"plain", "Muon"}
