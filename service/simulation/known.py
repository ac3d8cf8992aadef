"""What each image would meet at each exit, so that no network need run: logits of rows, computed once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_store.policy import AIM, Plan
from model_store.training.data import Rows
from model_store.training.scores import collect_path
from service.engine.loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class KnownImages:
    """Logits of all exits for some rows.

    Attributes:
        logits: float32 (K, N, num_classes).
        labels: int64 (N,); -1 where nobody knows.
        model: That said so, name@version.
    """

    logits: Tensor
    labels: Tensor
    model: str

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @classmethod
    def of(
        cls, model: LoadedModel, rows: Rows, on_rows: Callable[[int, int], None] = lambda done, total: None
    ) -> KnownImages:
        """Run ``rows`` along all exits."""
        scores = collect_path(model.executor, range(len(model.stages)), rows, on_rows=on_rows)
        return cls(scores.logits, scores.labels, model.key)

    def write(self, path: Path) -> None:
        """Keep for the next time."""
        np.savez_compressed(path, logits=self.logits.numpy(), labels=self.labels.numpy(), model=self.model)

    @classmethod
    def read(cls, path: Path) -> KnownImages:
        """From a file of ``write``.

        Raises:
            ValueError: It is something else.
            KeyError: It is another collection of arrays.
        """
        with np.load(path, allow_pickle=False) as kept:
            logits, labels = torch.from_numpy(kept["logits"]), torch.from_numpy(kept["labels"])
            return cls(logits, labels, str(kept["model"]))


def drawn_images(plan: Plan, stages: int, classes: int, count: int = 5000, seed: int = 0) -> KnownImages:
    """Images that leave ``plan`` as its calibration says, without any data: exits drawn by their shares.

    At every exit before its own an image is as unsure as can be, from there on it is sure.
    """
    chance = random.Random(seed)
    shares = exit_shares(plan)
    leaves = chance.choices(plan.exits, weights=shares, k=count)
    sure = torch.zeros(stages, count)
    for row, exit_ in enumerate(leaves):
        sure[exit_:, row] = 1e4
    logits = torch.zeros(stages, count, classes)
    logits[:, :, 0] = sure
    return KnownImages(logits, torch.full((count,), -1), "drawn")


def exit_shares(plan: Plan) -> tuple[float, ...]:
    """Share of the images that leave at each of the plan's exits, by the calibration."""
    if plan.segment is None or len(plan.exits) == 1:
        return (*(0.0 for _ in plan.exits[:-1]), 1.0)
    shares = plan.segment.shares_at(plan.allowed if plan.budget is None else plan.allowed * AIM)
    before = shares[: len(plan.exits) - 1]  # a limit may end the way earlier
    return (*before, 1.0 - sum(before))
