"""Engines, models and executors that tests of the engine share."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import torch
from conftest import SmallStore
from PIL import Image as PillowImage

from model_store import exits
from model_store.nets.staged import Features, Span
from model_store.policy import Plan
from service.engine.engine import Engine
from service.engine.executors import TorchExecutor
from service.engine.loaded import LoadedModel
from service.engine.ticket import Prediction
from service.metrics import Metrics


@asynccontextmanager
async def running(max_in_flight: int = 512, max_batch: int = 8) -> AsyncIterator[Engine]:
    """An engine that is started, and stopped at the end."""
    engine = Engine(Metrics(), max_in_flight=max_in_flight, max_batch=max_batch, max_wait_s=0.001)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def classify(
    engine: Engine, model: LoadedModel, images: list[np.ndarray], plan: Plan, deadline_s: float | None = None
) -> list[Prediction]:
    """Answers of one request."""
    with engine.admit() as permit:
        return await engine.submit(model, images, plan, permit, deadline_s).outcomes()  # type: ignore[return-value]


async def executed_flops(model: LoadedModel, images: list[np.ndarray], plan: Plan) -> float:
    """What the metrics say was executed for one request, whose images all fit into one batch."""
    metrics = Metrics()
    engine = Engine(metrics, max_in_flight=64, max_batch=len(images), max_wait_s=0.001)
    engine.start()
    try:
        await classify(engine, model, images, plan)
    finally:
        await engine.stop()
    executed = metrics.registry.get_sample_value(
        "exitramp_flops_total", {"model": model.name, "kind": "executed"}
    )
    assert executed is not None
    return executed


def natural_images(shifts: int = 3) -> np.ndarray:
    """The playground's CIFAR-10 images, mirrored and shifted, uint8 (12 · 2 · shifts², 3, 32, 32)."""
    files = sorted((Path(__file__).parent.parent / "service/playground/samples").glob("cifar10-*.png"))
    images = [np.asarray(PillowImage.open(file).convert("RGB").resize((32, 32))) for file in files]
    both = [side for image in images for side in (image, image[:, ::-1])]
    steps = [2 * (step - shifts // 2) for step in range(shifts)]
    moved = [np.roll(side, (down, right), (0, 1)) for side in both for down in steps for right in steps]
    return np.ascontiguousarray(np.stack(moved).transpose(0, 3, 1, 2))


def passed(model: LoadedModel, image: np.ndarray, plan: Plan) -> Iterator[tuple[float, int]]:
    """Confidence and label that each consulted exit has when the network is run on one image by itself."""
    features: Features = (torch.from_numpy(image[None].copy()),)
    for span in plan.spans():
        features, logits = model.executor.run(span, features)
        features = tuple(x.clone() for x in features)
        temperature = model.policy.temperature(span.last)
        row = exits.read(logits, model.policy.confidence, temperature)[0].tolist()
        yield row[0], int(row[1 + (len(row) - 1) // 2])


def alone(model: LoadedModel, image: np.ndarray, plan: Plan) -> tuple[int, int, int, float]:
    """Label, exit, FLOPs of the network run on one image by itself, and how close it came to a threshold."""
    distance, label = 1.0, -1
    for position, (confidence, said) in enumerate(passed(model, image, plan)):
        label = said
        threshold = plan.thresholds[position]
        if position + 1 < len(plan.exits):
            distance = min(distance, abs(confidence - threshold))
        if confidence >= threshold:
            break
    return label, plan.exits[position] + 1, plan.costs[position], distance


def torch_model(store: SmallStore) -> LoadedModel:
    """The small model in eager torch."""
    artifact = store.artifact
    executor = TorchExecutor(artifact.net, artifact.manifest.input, torch.device("cpu"))
    return LoadedModel(artifact.manifest, executor)


class SlowExecutor(TorchExecutor):
    """Sleeps in every launch, or in every one behind the span ``after``."""

    def __init__(self, store: SmallStore, after: Span | None, seconds: float) -> None:
        super().__init__(store.artifact.net, store.artifact.manifest.input, torch.device("cpu"))
        self._after, self._delay_s = after, seconds

    def run(self, span: Span, features: Features) -> tuple[Features, torch.Tensor]:
        if span != self._after:
            time.sleep(self._delay_s)
        return super().run(span, features)


class BlockedExecutor(TorchExecutor):
    """Counts the images of first spans; holds every launch until the gate opens."""

    def __init__(self, store: SmallStore) -> None:
        super().__init__(store.artifact.net, store.artifact.manifest.input, torch.device("cpu"))
        self.gate, self.images = threading.Event(), 0

    def run(self, span: Span, features: Features) -> tuple[Features, torch.Tensor]:
        if span.first == 0:
            self.images += len(features[0])
        assert self.gate.wait(30)
        return super().run(span, features)


class FailingExecutor(TorchExecutor):
    """Returns NaN until it is mended."""

    broken = True

    def __init__(self, store: SmallStore) -> None:
        super().__init__(store.artifact.net, store.artifact.manifest.input, torch.device("cpu"))

    def run(self, span: Span, features: Features) -> tuple[Features, torch.Tensor]:
        features, logits = super().run(span, features)
        return features, logits * float("nan") if self.broken else logits
