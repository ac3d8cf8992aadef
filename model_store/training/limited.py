"""Training until a FLOP limit is spent: which network learns most for its compute.

What counts: for each image the forward pass and twice as much for the backward pass, which computes the
gradients of all activations and of all weights; for each optimiser step the multiply-adds per parameter of
its update (``STEP_FLOPS``). Validation is not counted: it chooses a state, and nothing is learnt from it.

Source: "The Methodologies Behind Computationally Efficient Convolutional Neural Networks" (Quah), sections
III.B and IV.D: Adam or SGD, rates times 0.95 each epoch, and the state that is best in validation counts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import nn
from torch.nn import functional

from model_store.flops import count_stages, dense_flops
from model_store.nets.staged import StagedNet
from model_store.training.augment import Augmentation, Chance
from model_store.training.data import Rows
from model_store.training.recipe import Recipe
from model_store.training.scores import EagerRunner, collect_path
from model_store.zoo import Entry

NETWORKS = (
    "vggnet5-cifar",
    "efficientnet_b0-cifar",
    "squeezenet1_1-cifar",
    "mobilenet_v2-cifar",
    "mobilenet_v3_small-cifar",
    "mobilenet_v3_large-cifar",
    "shufflenet_v2_x1_0-cifar",
    "mnasnet0_5-cifar",
    "mnasnet1_0-cifar",
)
"""The nine of the paper, sized for 32x32 pixels."""

OptimizerName = Literal["adam", "sgd"]

BACKWARD = 2
"""Backward pass over forward pass, in multiply-adds."""

STEP_FLOPS = {"sgd": 2, "adam": 6}
"""Multiply-adds per parameter of one update: momentum and weight; two moments, a quotient and the weight."""

MOMENTUM = 0.9
"""Of SGD."""

BATCH_NORM_MOMENTUM = 0.1
"""Of all networks. MnasNet's own 0.0003 averages over 3,300 steps, more than these limits pay for: judged by
its running statistics it stays at chance, whatever it has learnt."""

EPOCH_DECAY = 0.95
"""Factor on the rate after each pass over the training rows."""

CHECKS = 20
"""How often validation looks at a run, at even distances of compute."""


class Setting(BaseModel, frozen=True):
    """One point of the grid."""

    optimizer: OptimizerName
    learning_rate: float
    batch_size: int

    def __str__(self) -> str:
        """Such as ``adam-0.001-64``."""
        return f"{self.optimizer}-{self.learning_rate:g}-{self.batch_size}"


class Check(BaseModel, frozen=True):
    """What validation saw."""

    flops: float = Field(description="Spent so far.")
    epochs: float = Field(description="Passes over the training rows so far.")
    accuracy: float = Field(description="Of the last exit on the held-out rows.")


class LimitedRun(BaseModel, frozen=True):
    """A network trained with one setting until the limit."""

    network: str
    setting: Setting
    seed: int
    rows: str = Field(description="Rows trained on.")
    parameters: int
    image_flops: int = Field(description="Forward, one image.")
    epoch_flops: float = Field(description="Of one pass over the training rows, everything counted.")
    limit: float
    checks: tuple[Check, ...]
    test_accuracy: float = Field(description="Of the state that was best in validation, on the test rows.")
    seconds: float

    @property
    def best(self) -> Check:
        """The check whose state counts."""
        return max(self.checks, key=lambda check: check.accuracy)

    @property
    def epochs_affordable(self) -> float:
        """Passes over the training rows that the limit pays for."""
        return self.limit / self.epoch_flops


def best_settings(results: Sequence[LimitedRun]) -> list[LimitedRun]:
    """Of each network the run that was best on the held-out rows, in the order they came."""
    best: dict[str, LimitedRun] = {}
    for run in results:
        if run.network not in best or run.best.accuracy > best[run.network].best.accuracy:
            best[run.network] = run
    return list(best.values())


def grid(
    optimizers: tuple[OptimizerName, ...], rates: tuple[float, ...], batch_sizes: tuple[int, ...]
) -> tuple[Setting, ...]:
    """Every combination."""
    return tuple(
        Setting(optimizer=optimizer, learning_rate=rate, batch_size=size)
        for optimizer, rate, size in product(optimizers, rates, batch_sizes)
    )


def step_flops(parameters: int, image_flops: int, setting: Setting) -> int:
    """Multiply-adds of one training step."""
    images = setting.batch_size * image_flops * (1 + BACKWARD)
    return images + STEP_FLOPS[setting.optimizer] * parameters


def train_limited(
    entry: Entry,
    setting: Setting,
    limit: float,
    train: Rows,
    held_out: Rows,
    test: Rows,
    recipe: Recipe,
    *,
    seed: int = 0,
    report: Callable[[float, float], None] = lambda spent, accuracy: None,
) -> LimitedRun:
    """Train a network of the zoo until the next step would exceed ``limit``.

    Args:
        entry: What to train, one exit or several; all exits learn.
        setting: Optimiser, rate, batch.
        limit: Multiply-adds.
        train: Rows to train on.
        held_out: Rows for validation.
        test: Rows for the final figure, looked at once.
        recipe: Task, normalisation and augmentation; nothing else of it counts.
        seed: Of initialisation, order and augmentation.
        report: Called after each check with FLOPs spent and accuracy.

    Raises:
        ValueError: The limit does not pay for one step.
    """
    torch.manual_seed(seed)
    started_s = time.perf_counter()
    side = train.images.shape[2]
    net = entry.build(side, num_classes=len(train.classes))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BATCH_NORM_MOMENTUM
    parameters = sum(p.numel() for p in net.parameters())
    image_flops = dense_flops(count_stages(net, side, side))[-1]
    cost = step_flops(parameters, image_flops, setting)
    steps = int(limit // cost)
    if steps < 1:
        raise ValueError(f"{entry.name}: one step costs {cost:.3g} FLOPs, the limit is {limit:.3g}")
    checks: list[Check] = []
    best: dict[str, Any] = {}
    steps_per_epoch = len(train) // setting.batch_size
    marks = {round(steps * (i + 1) / CHECKS) for i in range(CHECKS)}
    for step in _steps(net, setting, steps, train, recipe, seed):
        if step in marks:
            accuracy = _accuracy(net, recipe, held_out)
            checks.append(Check(flops=step * cost, epochs=step / steps_per_epoch, accuracy=accuracy))
            if accuracy > max([check.accuracy for check in checks[:-1]], default=-1.0):
                best = copy.deepcopy(net.state_dict())
            report(step * cost, accuracy)
    net.load_state_dict(best)
    return LimitedRun(
        network=entry.name,
        setting=setting,
        seed=seed,
        rows=train.source,
        parameters=parameters,
        image_flops=image_flops,
        epoch_flops=cost * len(train) / setting.batch_size,
        limit=limit,
        checks=tuple(checks),
        test_accuracy=_accuracy(net, recipe, test),
        seconds=time.perf_counter() - started_s,
    )


def _steps(
    net: StagedNet, setting: Setting, steps: int, rows: Rows, recipe: Recipe, seed: int
) -> Iterator[int]:
    """Take ``steps`` gradient steps; yields the number of each, 1-based, when it is done."""
    optimizer: torch.optim.Optimizer
    if setting.optimizer == "adam":
        optimizer = torch.optim.Adam(net.parameters(), lr=setting.learning_rate)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=setting.learning_rate, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, EPOCH_DECAY)
    augmentation, side = Augmentation(recipe, torch.device("cpu")), rows.images.shape[2]
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
    done, epoch = 0, 0
    while done < steps:
        chance = Chance(seed, epoch, torch.device("cpu"))
        batches = torch.split(chance.order(len(rows)), setting.batch_size)
        for chosen in batches[: len(rows) // setting.batch_size]:
            net.train()
            images, targets = augmentation(rows.images[chosen], rows.labels[chosen], side, chance)
            losses = [functional.cross_entropy(logits, targets.labels) for logits in net(images)]
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
            done += 1
            yield done
            if done == steps:
                return
        schedule.step()
        epoch += 1


def _accuracy(net: StagedNet, recipe: Recipe, rows: Rows) -> float:
    scores = collect_path(EagerRunner(net.eval(), recipe.mean, recipe.std), [net.stages - 1], rows)
    return float(scores.correct[-1].mean())
