"""Recipes: everything that decides how an artifact is trained, as one frozen, named object each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How one artifact is trained; together with the data and the seed it determines the result."""

    task: str = Field(description="Name of the class list; models of one task can stand in for each other.")
    network: str = Field(description="Entry of the network registry.")
    arguments: Mapping[str, Any] = Field(description="Keyword arguments of the network.")
    mean: tuple[float, float, float] = Field(description="Per-channel mean of the training pixels, 0..1.")
    std: tuple[float, float, float] = Field(description="Per-channel standard deviation, 0..1.")
    epochs: int = Field(ge=1, description="Passes over the training rows.")
    batch_size: int = Field(128, ge=1, description="Images per step over all devices.")
    learning_rate: float = Field(0.1, gt=0, description="Peak rate of SGD with Nesterov momentum.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.")
    weight_decay: float = Field(5e-4, ge=0, description="On convolution and linear weights only.")
    warmup_epochs: float = Field(2, ge=0, description="Linear rise of the rate from 0.")
    decay: Literal["linear", "cosine"] = Field("linear", description="Fall of the rate to 0 after warm-up.")
    restarts: int = Field(0, ge=0, description="Warm restarts after the fall to 0.")
    restart_epochs: int = Field(5, ge=1, description="Epochs of each restart.")
    restart_rate: float = Field(
        0.05, gt=0, description="Peak rate of the restart. Source: SGDR, arXiv:1608.03983."
    )
    clip_norm: float = Field(5.0, gt=0, description="Gradient norm cap: seven losses share one trunk.")
    ema_decay: float = Field(
        0.998, ge=0, lt=1, description="Moving average of weights and buffers, per step."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Hurts the ranking of confidences if > 0.")
    crop_padding: int = Field(4, ge=0, description="Zero padding before the random crop, pixels.")


RECIPES: Mapping[str, Recipe] = {
    "cifar10-fusion": Recipe(
        task="cifar10",
        network="fusion",
        arguments={"num_classes": 10, "activation": "relu"},
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        epochs=26,
        restarts=2,
    ),
    "cifar100-fusion": Recipe(
        task="cifar100",
        network="fusion",
        arguments={"num_classes": 100, "activation": "relu"},
        mean=(0.5071, 0.4866, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        epochs=26,
    ),
}
