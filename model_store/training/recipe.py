"""A recipe: everything that decides how an artifact is trained, as one frozen object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from model_store.training.data import Rows


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
        None,
        description="Whose probabilities are the target of all exits: a recipe's finished run, or an "
        "artifact, NAME@VERSION.",
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

    l1: float = Field(
        0.0, ge=0, description="Weight of the sum of all weights' magnitudes: pruning then costs less."
    )
    keep_zeros: bool = Field(
        False, description="Weights that are zero in the start stay zero: they were pruned one by one."
    )

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

    @field_validator("arguments")
    @classmethod
    def _as_in_json(cls, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """As they come back from a checkpoint, where a tuple has become a list."""
        try:
            plain: Mapping[str, Any] = json.loads(json.dumps(dict(arguments), allow_nan=False))
        except TypeError as error:
            raise ValueError(f"arguments that a checkpoint cannot hold: {error}") from error
        return plain

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
        if self.keep_zeros and self.start is None:
            raise ValueError("keep_zeros needs a start")
        if self.teacher_with_start and None in (self.teacher, self.start):
            raise ValueError("teacher_with_start needs a teacher and a start")
        return self

    def changed(self, **changes: Any) -> Recipe:
        """A copy with other values.

        Raises:
            ValueError: They make no recipe.
        """
        return Recipe.model_validate({**self.model_dump(), **changes})


def plain_recipe(rows: Rows) -> Recipe:
    """Crops and flips for ``rows``, normalised by their own mean and deviation; for comparisons."""
    pixels = rows.images[::50].float() / 255
    mean, std = (getattr(pixels, name)(dim=(0, 2, 3)).tolist() for name in ("mean", "std"))
    return Recipe(
        task="comparison",
        network="",
        arguments={},
        mean=mean,
        std=std,
        epochs=1,
        warmup_epochs=0,
        ema_decay=0,
    )
