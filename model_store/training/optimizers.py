"""Optimisers and rates of a recipe: SGD for everything, or Muon on filter banks and SGD on the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model_store.training.muon import Muon
from model_store.training.recipe import Recipe


class Optimizers:
    """One step for all parameters, whichever optimiser they belong to."""

    def __init__(self, net: nn.Module, recipe: Recipe) -> None:
        """Assign each parameter of ``net`` that is trained to an optimiser."""
        trained = [p for p in net.parameters() if p.requires_grad]
        filters = [p for p in trained if recipe.optimizer == "muon" and _is_filter_bank(p)]
        taken = set(map(id, filters))
        rest = [p for p in trained if id(p) not in taken]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        rate = recipe.learning_rate
        sgd = torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
        self._all: list[tuple[torch.optim.Optimizer, float]] = [(sgd, rate)]
        if filters:
            self._all.append((Muon(filters, recipe.muon_rate, recipe.muon_momentum), recipe.muon_rate))

    def step(self, share: float) -> None:
        """Update all parameters at ``share`` (0..1) of the peak rates, then drop their gradients."""
        for optimizer, rate in self._all:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """State of each optimiser, in a fixed order."""
        return [optimizer.state_dict() for optimizer, _ in self._all]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore what ``state_dict`` gave."""
        for (optimizer, _), state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)


def rate_share(step: int, recipe: Recipe, steps_per_epoch: int) -> float:
    """Share of the peak rates at ``step``: a linear rise during warm-up, then the fall to 0."""
    warmup, length = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    left = 1 - (step - warmup) / max(length - warmup, 1)
    return left if recipe.decay == "linear" else 0.5 - 0.5 * math.cos(left * math.pi)


def _is_filter_bank(p: Tensor) -> bool:
    """Whether ``p`` is a convolution's filters, but not a depthwise one's, which mix no channels."""
    return p.ndim == 4 and p.shape[1] > 1
