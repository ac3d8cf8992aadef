"""Recipes: everything that decides how an artifact is trained, as one frozen, named object each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How one artifact is trained; with the data, the seed, start and teacher it determines the result."""

    artifact: str | None = Field(None, description="Artifact that it makes, if not named like the recipe.")
    task: str = Field(description="Name of the class list; models of one task can stand in for each other.")
    network: str = Field(description="Entry of the network registry.")
    arguments: Mapping[str, Any] = Field(description="Keyword arguments of the network.")
    mean: tuple[float, float, float] = Field(description="Per-channel mean of the training pixels, 0..1.")
    std: tuple[float, float, float] = Field(description="Per-channel standard deviation, 0..1.")
    start: str | None = Field(
        None,
        description="What to start from where tensors agree: an artifact, NAME@VERSION; another recipe's "
        "finished run; or ``imagenet``, the network's published weights.",
    )

    frozen: tuple[str, ...] = Field(
        (), description="Beginnings of the names of parameters that keep their values."
    )

    epochs: int = Field(ge=1, description="Passes over the training rows.")
    batch_size: int = Field(128, ge=1, description="Images per step over all devices.")
    optimizer: Literal["sgd", "muon"] = Field(
        "muon", description="For the convolution filters; SGD does the rest."
    )
    learning_rate: float = Field(0.05, gt=0, description="Peak rate of SGD with Nesterov momentum.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    weight_decay: float = Field(5e-4, ge=0, description="Of SGD, on convolution and linear weights only.")
    muon_rate: float = Field(0.05, gt=0, description="Peak relative step of a filter bank under Muon.")
    muon_momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of Muon.")
    warmup_epochs: float = Field(2, ge=0, description="Linear rise of the rates from 0.")
    decay: Literal["linear", "cosine"] = Field("linear", description="Fall of the rates to 0 after warm-up.")
    clip_norm: float = Field(
        0.0, ge=0, description="Gradient norm cap, 0: none. Muon needs none; seven losses on one trunk do."
    )
    ema_decay: float = Field(
        0.998, ge=0, lt=1, description="Moving average of weights and buffers, per step; 0: the last weights."
    )

    equilibrium: bool = Field(
        False,
        description="Average the exits' gradients in each block instead of adding them. Without effect on "
        "filter banks under Muon, which ignores scale. Source: Li et al. 2019, arXiv:1908.06294.",
    )
    boost: float = Field(
        0.0,
        ge=0,
        description="Each exit learns what this times the detached sum of the exit before it lacks. For "
        "comparison only: serving it would need all heads. Source: BoostNet, arXiv:2211.16726.",
    )
    self_distillation: float = Field(
        0.0, ge=0, le=1, description="Weight of the last exit's probabilities as target of the earlier exits."
    )
    teacher: str | None = Field(
        None, description="Recipe whose finished run's probabilities are the target of all exits."
    )
    teacher_weight: float = Field(0.0, ge=0, le=1, description="Weight of the teacher's target.")
    teacher_once: bool = Field(
        False,
        description="Ask the teacher once, about each image and its mirror image, instead of about each "
        "augmented batch: costs nothing during training, but crops are not matched.",
    )
    teacher_with_start: bool = Field(
        False,
        description="The network that training starts from teaches too: the target is the mean of both "
        "networks' logits. Of held-out rows EfficientNet-Lite0 got 74.7 %, cifar100-fusion@2 72.4 %, both "
        "76.0 % (mirror images averaged, n = 5,000).",
    )
    temperature: float = Field(2.0, gt=0, description="Softens both sides of a distillation.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Hurts the ranking of confidences if > 0.")

    crop_padding: int = Field(4, ge=0, description="Zero padding before the random crop, pixels.")
    cutout: int = Field(0, ge=0, description="Side of a square set to the mean colour, pixels; 0: none.")
    mix: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of batches that are mixed, half by mixup, half by CutMix. Pays from 150 epochs.",
    )
    small_px: int = Field(0, ge=0, description="Side of the windows that the small epochs see, pixels.")
    small_epochs: int = Field(
        0,
        ge=0,
        description="First epochs, on random windows: 0.56 of the compute at 24 of 32 pixels.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not (self.small_epochs < self.epochs and self.warmup_epochs < self.epochs):
            raise ValueError(
                f"{self.epochs} epochs are too few for {self.small_epochs} on small windows "
                f"and {self.warmup_epochs:g} of warm-up"
            )
        if self.small_epochs > 0 and self.small_px == 0:
            raise ValueError("small_epochs needs small_px")
        if (self.teacher is None) != (self.teacher_weight == 0):
            raise ValueError("teacher and teacher_weight need each other")
        if self.teacher_once and (self.teacher is None or self.mix > 0):
            raise ValueError("teacher_once needs a teacher, and a teacher has to see mixtures")
        if self.teacher_with_start and None in (self.teacher, self.start):
            raise ValueError("teacher_with_start needs a teacher and a start")
        return self

    def changed(self, **changes: Any) -> Recipe:
        """A copy with other values.

        Raises:
            ValueError: They make no recipe.
        """
        return Recipe.model_validate({**self.model_dump(), **changes})


_CIFAR10: dict[str, Any] = {"task": "cifar10", "mean": CIFAR10_MEAN, "std": CIFAR10_STD}
_CIFAR100: dict[str, Any] = {"task": "cifar100", "mean": CIFAR100_MEAN, "std": CIFAR100_STD}

_CPU: dict[str, Any] = {"warmup_epochs": 1, "ema_decay": 0.0}
"""What fits into hours on two cores. The last weights were better than averages over 100 or 500 steps."""

_FULL: dict[str, Any] = {"epochs": 200, "batch_size": 256, "warmup_epochs": 5, "mix": 0.5, "ema_decay": 0.999}
"""What a GPU affords. 200 epochs are enough for mixing to pay."""

_TEACHER: dict[str, Any] = {
    "network": "wide_resnet",
    "optimizer": "sgd",  # half of its convolutions have no BatchNorm behind them, which Muon counts on
    "learning_rate": 0.1,
    "clip_norm": 5.0,
    "epochs": 100,
    "batch_size": 256,
    "warmup_epochs": 5,
    "mix": 0.5,
    "ema_decay": 0.999,
}


_FROM_IMAGENET: dict[str, Any] = {"start": "imagenet", "epochs": 3, "learning_rate": 0.02}


def _staged(network: str, classes: int, task: Mapping[str, Any], **rest: Any) -> Recipe:
    arguments = {"num_classes": classes, "activation": "relu"}
    return Recipe(network=network, arguments=arguments, **task, **rest)


def _full(classes: int, task: Mapping[str, Any]) -> Mapping[str, Recipe]:
    """The full recipe, its control, and the teacher of both, for a GPU."""
    name = task["task"]
    taught = {"teacher": f"{name}-teacher", "teacher_weight": 0.5}
    wide = {"num_classes": classes, "depth": 16, "width": 8}
    return {
        f"{name}-teacher": Recipe(arguments=wide, **task, **_TEACHER),
        f"{name}-fusion-full": _staged("fusion", classes, task, artifact=f"{name}-fusion", **taught, **_FULL),
        f"{name}-msdnet-full": _staged("msdnet", classes, task, artifact=f"{name}-msdnet", **taught, **_FULL),
    }


def _taught(
    classes: int, task: Mapping[str, Any], teacher: str, start: str, epochs: int, rate: float
) -> Recipe:
    """What two cores afford in an hour or two: go on from an embedded version, which teaches too.

    At a low Muon ``rate``: 8 epochs from 0.02 led nowhere (-0.1 ± 0.5 points at exit 7 of CIFAR-100, 5,000
    held-out rows), 7 epochs from 0.007 to +1.2 ± 0.4; on CIFAR-10 22 epochs from 0.01 to +1.6 ± 0.3.
    """
    taught = {"teacher": teacher, "teacher_with_start": True, "teacher_weight": 0.7, "teacher_once": True}
    rates = {"learning_rate": 0.02, "muon_rate": rate}
    return _staged("fusion", classes, task, start=start, epochs=epochs, **taught, **rates, **_CPU)


def _cpu_teacher(classes: int, side: int, task: Mapping[str, Any], **rest: Any) -> Recipe:
    """A teacher that two cores afford: ImageNet weights, all but the first blocks fine-tuned."""
    return Recipe(
        network="efficientnet_lite0",
        arguments={"num_classes": classes, "side": side},
        frozen=tuple(f"blocks.0.layers.{number}." for number in range(4)),
        optimizer="sgd",
        weight_decay=1e-4,
        clip_norm=5.0,
        batch_size=64,
        warmup_epochs=0.1,
        ema_decay=0.0,
        **task,
        **rest,
    )


RECIPES: Mapping[str, Recipe] = {
    "cifar10-fusion": _taught(
        10, _CIFAR10, "cifar10-teacher-128px", "cifar10-fusion@3", epochs=22, rate=0.01
    ),
    "cifar100-fusion": _taught(
        100, _CIFAR100, "cifar100-teacher-cpu", "cifar100-fusion@3", epochs=7, rate=0.007
    ),
    # The same for both networks and from nothing, to compare them.
    "cifar10-fusion-control": _staged("fusion", 10, _CIFAR10, epochs=6, small_epochs=4, small_px=24, **_CPU),
    "cifar10-msdnet-control": _staged("msdnet", 10, _CIFAR10, epochs=6, small_epochs=4, small_px=24, **_CPU),
    "cifar10-teacher-cpu": _cpu_teacher(10, 96, _CIFAR10, **_FROM_IMAGENET),
    "cifar100-teacher-cpu": _cpu_teacher(100, 96, _CIFAR100, **_FROM_IMAGENET),
    "cifar10-teacher-128px": _cpu_teacher(
        10, 128, _CIFAR10, start="cifar10-teacher-cpu", epochs=2, learning_rate=0.01
    ),
    **_full(10, _CIFAR10),
    **_full(100, _CIFAR100),
}
"""By name. Those that end in ``-full`` or ``-teacher`` are for a GPU; the others for a CPU."""
