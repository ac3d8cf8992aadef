"""What the artifact answers when nobody else asks: run in the test's own process, one image at a time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from engines import natural_images, passed
from PIL import Image as PillowImage

from model_store.policy import Plan
from model_store.preprocess import ImageLimits, decode
from service.loading import load_model
from service.settings import Settings

FORMATS = ({"format": "PNG"}, {"format": "BMP"}, {"format": "JPEG", "quality": 90}, {"format": "WEBP"})

NEAR = 1e-4
"""A confidence this close to its threshold may fall on either side of it in a batch of another size."""


def encoded_images() -> list[bytes]:
    """The 216 natural images as files in four formats, every third one enlarged."""
    files = []
    for number, planes in enumerate(natural_images()):
        image, file = PillowImage.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))), io.BytesIO()
        if number % 3 == 0:
            image = image.resize((100, 90))
        image.save(file, **FORMATS[number // 3 % len(FORMATS)])  # type: ignore[arg-type]
        files.append(file.getvalue())
    return files


@dataclass(frozen=True)
class Alone:
    """An image's answers under one budget and limit.

    Attributes:
        exits: Class index and FLOPs at each exit that is consulted.
        exit: Where it leaves; a ledger may move that.
        certain: Whether nothing may move it: no ledger, and no confidence near its threshold.
    """

    exits: dict[int, tuple[int, int]]
    exit: int
    certain: bool

    def knows(self, prediction: dict[str, int]) -> bool:
        """Whether this is what the image gets at that exit."""
        return self.exits.get(prediction["exit"]) == (prediction["index"], prediction["flops"])

    def explains(self, prediction: dict[str, int]) -> bool:
        """Whether it also is the right exit, as far as that is certain."""
        return self.knows(prediction) and (prediction["exit"] == self.exit or not self.certain)


class Offline:
    """A model on the executor that a server with default settings has, and images for it."""

    def __init__(self, name: str, files: Sequence[bytes]) -> None:
        self.model = load_model(Settings(), name)
        self.files = files
        spec = self.model.manifest.input
        self.images = [decode(file, spec, ImageLimits()) for file in files]
        self._passed: dict[tuple[int, tuple[int, ...]], list[tuple[float, int]]] = {}

    def alone(self, number: int, mean: float | None, limit: float | None) -> Alone:
        """The answers of image ``number``."""
        plan = self.model.plan(mean, limit, True)
        key = (number, plan.exits)
        if key not in self._passed:
            self._passed[key] = list(passed(self.model, self.images[number], plan))
        return _judged(plan, self._passed[key])


def _judged(plan: Plan, said: Sequence[tuple[float, int]]) -> Alone:
    thresholds = plan.thresholds
    position = next(k for k, (confidence, _) in enumerate(said) if confidence >= thresholds[k])
    near = any(abs(said[k][0] - thresholds[k]) <= NEAR for k in range(min(position + 1, len(said) - 1)))
    exits = {k + 1: (label, cost) for k, cost, (_, label) in zip(plan.exits, plan.costs, said, strict=True)}
    return Alone(exits, plan.exits[position] + 1, plan.budget is None and not near)
