"""Checkpoints of training runs: one file a run, whole at any time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch.optim.swa_utils import AveragedModel

from model_store import nets
from model_store.nets.staged import StagedNet
from model_store.training.recipe import Recipe

CHECKPOINT = "checkpoint.pt"


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` beside the old checkpoint of ``folder``, then put it in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{CHECKPOINT}.partial"
    torch.save(state, partial)
    os.replace(partial, folder / CHECKPOINT)


def read_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The state in ``folder``, tensors on ``device``; ``None`` if there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def recipe_of(state: dict[str, Any]) -> Recipe | None:
    """The recipe of a checkpoint, or nothing if no recipe of today can say that."""
    try:
        return Recipe.model_validate_json(state["recipe"])
    except ValidationError:
        return None


def load_average(recipe: Recipe, folder: Path) -> StagedNet:
    """The averaged network of a finished run, e.g. a teacher; its BatchNorm statistics are stale.

    Raises:
        ValueError: There is no finished run of ``recipe`` in ``folder``.
    """
    state = read_checkpoint(folder, torch.device("cpu"))
    if state is None or recipe_of(state) != recipe or state["epoch"] < recipe.epochs:
        raise ValueError(
            f"{folder} holds no finished run of the recipe {folder.name}; train it first: "
            f"exitramp train {folder.name} --no-publish --data DIR --runs {folder.parent}"
        )
    average: AveragedModel = AveragedModel(nets.build(recipe.network, recipe.arguments), use_buffers=True)
    average.load_state_dict(state["average"])
    assert isinstance(average.module, StagedNet)
    return average.module
