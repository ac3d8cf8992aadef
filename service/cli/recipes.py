"""From the name of a recipe to all that its run needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model_store.store import EMBEDDED, ArtifactNotFound
from service.cli.options import Failure, load_artifact

if TYPE_CHECKING:
    from model_store.nets.staged import StagedNet
    from model_store.training.recipe import Recipe


def named_recipe(name: str, epochs: int | None = None) -> Recipe:
    """The recipe called ``name``, perhaps at another length."""
    from model_store.training.recipes import RECIPES

    if name not in RECIPES:
        raise Failure(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    try:
        return RECIPES[name] if epochs is None else RECIPES[name].changed(epochs=epochs)
    except ValueError as error:
        raise Failure(f"--epochs {epochs}: {error}") from error


def start_of(recipe: Recipe, store: Path, runs: Path) -> StagedNet | None:
    """What ``recipe`` starts from: ImageNet weights, a finished run among ``runs``, or an artifact.

    Raises:
        ValueError: There are no ImageNet weights for it, or no finished run.
        StoreError: There is no such artifact.
        Failure: A name without a version is no recipe.
    """
    from model_store.training.start import IMAGENET, imagenet_net

    if recipe.start == IMAGENET:
        return imagenet_net(recipe)
    return None if recipe.start is None else _trained(recipe.start, store, runs)


def teacher_of(recipe: Recipe, store: Path, runs: Path) -> StagedNet | None:
    """The teacher of ``recipe``, if it has one: a finished run among ``runs``, or an artifact.

    Raises:
        ValueError: That run is not there or not finished.
        StoreError: There is no such artifact.
        Failure: A name without a version is no recipe.
    """
    return None if recipe.teacher is None else _trained(recipe.teacher, store, runs)


def _trained(name: str, store: Path, runs: Path) -> StagedNet:
    """The artifact NAME@VERSION of ``store`` or else of the embedded ones, or a recipe's finished run."""
    from model_store.training.checkpoint import load_average

    if "@" not in name:
        return load_average(named_recipe(name), runs / name)
    try:
        return load_artifact(store, name).net
    except ArtifactNotFound:
        return load_artifact(EMBEDDED, name).net
