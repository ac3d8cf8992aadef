"""Which means help: short runs of equal length side by side, each against the one it changes in one thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field

from model_store.nets.staged import StagedNet
from model_store.training.data import Rows
from model_store.training.losses import boosted
from model_store.training.recipe import Recipe
from model_store.training.report import standard_error
from model_store.training.scores import Bools, EagerRunner, Scores, collect_path
from model_store.training.train import Progress, Run

PLAIN: Mapping[str, Any] = {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 5.0, "ema_decay": 0.0}
"""The sum of the exits' cross-entropies under SGD, batches of 128, crops and flips."""

MEANS: Mapping[str, tuple[str | None, Mapping[str, Any]]] = {
    "plain": (None, PLAIN),
    "gradient equilibrium": ("plain", {"equilibrium": True}),
    "boosted exits": ("plain", {"boost": 0.5}),
    "self-distillation": ("plain", {"self_distillation": 0.5}),
    "Muon": ("plain", {"optimizer": "muon", "learning_rate": 0.05, "clip_norm": 0.0}),
    "Muon, EMA": ("Muon", {"ema_decay": 0.99}),
    "Muon, EMA, small windows": ("Muon, EMA", {"small_px": 24, "small_epochs": 0.6}),
    "Muon, EMA, boosted exits": ("Muon, EMA", {"boost": 0.5}),
    "Muon, EMA, self-distillation": ("Muon, EMA", {"self_distillation": 0.5}),
    "Muon, EMA, teacher": ("Muon, EMA", {"teacher_weight": 0.5}),
    "Muon, EMA, cutout": ("Muon, EMA", {"cutout": 8}),
    "Muon, EMA, mixing": ("Muon, EMA", {"mix": 0.5}),
    "Muon, EMA, smoothing": ("Muon, EMA", {"label_smoothing": 0.1}),
    "Muon, EMA, GELU": ("Muon, EMA", {"activation": "gelu"}),
}
"""By name: what it is compared with, and what it changes there. ``small_epochs`` is a share of the epochs."""


class MeansResult(BaseModel, frozen=True, extra="forbid"):
    """One short run."""

    name: str = Field(description="Entry of MEANS.")
    against: str | None = Field(description="Entry that it changes in one thing.")
    accuracies: tuple[float, ...] = Field(description="Of each exit on the held-out rows.")
    gain: float | None = Field(description="Mean over the exits, against the other run.")
    error: float | None = Field(description="Standard error of the gain, paired by row; seeds add to it.")
    seconds: float = Field(description="Time of training, evaluation not included.")
    images: int = Field(description="Images trained on.")


def needs_teacher(name: str) -> bool:
    """Whether the entry ``name`` of MEANS is about a teacher."""
    return "teacher_weight" in MEANS[name][1]


def recipe_of(name: str, base: Recipe, epochs: int) -> Recipe:
    """The recipe of one entry of MEANS: network and data of ``base``, the changes up to that entry.

    Raises:
        KeyError: No such entry.
        ValueError: The entry needs a teacher and ``base`` has none.
    """
    against, changes = MEANS[name]
    if against is None:
        same = base.model_dump(include={"task", "network", "arguments", "mean", "std"})
        return Recipe(**same, **changes, epochs=epochs, warmup_epochs=0.2 * epochs)
    before = recipe_of(against, base, epochs)
    known = dict(changes)
    if "small_epochs" in known:
        known["small_epochs"] = round(known["small_epochs"] * epochs)
    if needs_teacher(name):
        if base.teacher is None:
            raise ValueError(f"{name!r} needs a recipe with a teacher")
        known |= {"teacher": base.teacher, "teacher_once": base.teacher_once}
    if "activation" in known:
        known["arguments"] = {**before.arguments, "activation": known.pop("activation")}
    return before.changed(**known)


def compare_means(
    base: Recipe,
    train: Rows,
    held_out: Rows,
    folder: Path,
    epochs: int,
    names: tuple[str, ...],
    *,
    seed: int = 0,
    compile_net: bool = True,
    teacher: StagedNet | None = None,
    report: Callable[[str, Progress], None] = lambda name, progress: None,
) -> list[MeansResult]:
    """Train each of ``names`` for ``epochs`` on ``train`` and judge it on ``held_out``.

    Args:
        base: Network, task and teacher.
        train: Rows to train on, a part of the training rows for a quick answer.
        held_out: Rows that nobody trains on.
        folder: For checkpoints; finished runs found there are not repeated.
        epochs: Passes over ``train``.
        names: Entries of MEANS; what an entry is compared with must come before it.
        seed: The same for all.
        compile_net: Use ``torch.compile``.
        teacher: The network that the teacher of ``base`` names.
        report: Called with name and progress.
    """
    correct: dict[str, Bools] = {}
    results = []
    for name in names:
        recipe = recipe_of(name, base, epochs)
        place = folder / name.replace(",", "").replace(" ", "-")
        torch._dynamo.reset()  # its limit of recompilations would leave the later runs uncompiled
        taught_by = None if recipe.teacher is None else teacher
        run = Run(recipe, train, place, seed=seed, compile_net=compile_net, teacher=taught_by)
        while not run.done:
            run.train_epoch(lambda progress, name=name: report(name, progress))  # type: ignore[misc]
        correct[name] = _correct(run.averaged_net(), held_out, recipe)
        other = correct.get(MEANS[name][0] or "")
        gains = None if other is None else correct[name].mean(axis=0) - other.mean(axis=0)
        results.append(
            MeansResult(
                name=name,
                against=MEANS[name][0],
                accuracies=tuple(correct[name].mean(axis=1).tolist()),
                gain=None if gains is None else float(gains.mean()),
                error=None if gains is None else standard_error(gains),
                seconds=run.seconds,
                images=epochs * run.steps_per_epoch * recipe.batch_size,
            )
        )
    return results


def _correct(net: StagedNet, rows: Rows, recipe: Recipe) -> Bools:
    """Which rows each exit gets right, bool (K, N); boosted exits answer with their sums."""
    scores = collect_path(EagerRunner(net, recipe.mean, recipe.std), range(net.stages), rows)
    logits = torch.stack(boosted(list(scores.logits), recipe.boost))
    return Scores(logits, scores.labels, scores.source, scores.exits).correct
