"""Loaded models, and which one answers a request."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import torch

from model_store.store import Artifact, Store, StoreError
from service.engine.executors import Executor, TorchExecutor
from service.engine.loaded import LoadedModel
from service.errors import UnknownModel
from service.family import Choice, Family
from service.settings import Settings

logger = logging.getLogger(__name__)


def load_models(settings: Settings) -> dict[str, LoadedModel]:
    """Load, compile and warm up the models that ``settings`` names, by key, in order.

    Raises:
        StoreError: An artifact is missing or broken.
    """
    store = Store(settings.model_store)
    models: dict[str, LoadedModel] = {}
    for wanted in settings.models:
        started_s = time.monotonic()
        name, _, version = wanted.partition("@")
        artifact = store.load(name, int(version) if version.isdecimal() else None)
        model = LoadedModel(artifact.manifest, make_executor(artifact, settings.executor, settings.threads))
        _warm_up(model)
        models[model.key] = model
        seconds = round(time.monotonic() - started_s, 3)
        logger.info(
            "model_loaded", extra={"model": model.key, "device": model.executor.device, "seconds": seconds}
        )
    return models


def make_executor(artifact: Artifact, choice: str, threads: int) -> Executor:
    """The executor that ``choice`` (auto, openvino, torch) means on this machine."""
    cuda = torch.cuda.is_available()
    if choice == "torch" or (choice == "auto" and cuda):
        device = torch.device("cuda" if cuda else "cpu")
        return TorchExecutor(artifact.net, artifact.manifest.input, device)
    # Imported where it is used: a CUDA machine need not load OpenVINO.
    from service.engine.openvino_executor import OpenVinoExecutor

    return OpenVinoExecutor(artifact.net, artifact.manifest.input, threads)


def _warm_up(model: LoadedModel) -> None:
    """Compile all spans that requests may use and run the policy's path once on a grey image."""
    spec = model.manifest.input
    for span in model.served_spans():
        model.executor.prepare(span)
    plan = model.plan(None, None, True)
    features: tuple[torch.Tensor, ...] = (
        torch.full((1, 3, spec.height, spec.width), 127, dtype=torch.uint8),
    )
    for span in plan.spans():
        features, _ = model.executor.run(span, features)
        features = tuple(x.clone() for x in features)


class Registry:
    """Finds the model and the plan for a request's X-Model, budget and limit."""

    def __init__(self, models: Mapping[str, LoadedModel]) -> None:
        """Index ``models`` by key, name (the latest version) and task; the first one is the default.

        Raises:
            StoreError: Models of one task have different classes.
        """
        self.models = models
        self._default = next(iter(models.values()), None)
        self._by_text: dict[str, list[LoadedModel]] = {}
        self._families: dict[tuple[str, ...], Family] = {}
        for model in sorted(models.values(), key=lambda model: model.manifest.version):
            self._by_text[model.name] = [model]  # the latest version comes last and stays
        classes: dict[str, LoadedModel] = {}
        for model in models.values():
            first = classes.setdefault(model.manifest.task, model)
            if first.manifest.classes != model.manifest.classes:
                raise StoreError(f"{first.key} and {model.key} are of one task with different classes")
            self._by_text[model.key] = [model]
            if model.manifest.task not in {other.name for other in models.values()}:
                self._by_text.setdefault(model.manifest.task, []).append(model)

    def find(self, text: str | None) -> list[LoadedModel]:
        """Models that ``text`` (task, name, name@version or nothing) means; several only for a task.

        Raises:
            UnknownModel: None is loaded under that name.
        """
        if text is None and self._default is not None:
            return [self._default]
        found = self._by_text.get(text or "")
        if not found:
            raise UnknownModel(f"no model or task {text!r} is loaded; loaded: {', '.join(self._by_text)}")
        return found

    def resolve(
        self, text: str | None, mean: float | None, limit: float | None, *, patient: bool, single: bool
    ) -> Choice:
        """The model that answers, with its plan; of a task's models see ``Family.resolve``.

        Raises:
            UnknownModel: None is loaded under that name.
            BudgetTooSmall: No model of the task can meet budget or limit.
        """
        return self._family(tuple(self.find(text))).resolve(mean, limit, patient=patient, single=single)

    def _family(self, models: tuple[LoadedModel, ...]) -> Family:
        keys = tuple(model.key for model in models)
        if keys not in self._families:
            self._families[keys] = Family(models)
        return self._families[keys]
