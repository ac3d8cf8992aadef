"""From an artifact in the store to a model that is compiled and warm."""

from __future__ import annotations

import logging
import time

import torch

from model_store.store import Artifact, ArtifactBroken, ArtifactNotFound, Store
from service.engine.executors import Executor, TorchExecutor
from service.engine.loaded import LoadedModel
from service.engine.null_executor import NullExecutor
from service.settings import Settings

logger = logging.getLogger(__name__)


def load_model(settings: Settings, wanted: str) -> LoadedModel:
    """Load, compile and warm up an artifact, ``name`` (its latest version) or ``name@version``.

    Raises:
        StoreError: It is missing or broken.
    """
    started_s = time.monotonic()
    name, at, version = wanted.partition("@")
    if at and not version.isdecimal():
        raise ArtifactNotFound(f"{wanted!r} is neither a name nor name@version")
    artifact = Store(settings.model_store).load(name, int(version) if at else None)
    try:
        model = LoadedModel(artifact.manifest, make_executor(artifact, settings.executor, settings.threads))
        warm_up(model)
    except Exception as error:  # whatever a compiler may raise
        raise ArtifactBroken(f"{wanted} cannot be run: {error}") from error
    seconds = round(time.monotonic() - started_s, 3)
    logger.info(
        "model_loaded", extra={"model": model.key, "device": model.executor.device, "seconds": seconds}
    )
    return model


def make_executor(artifact: Artifact, choice: str, threads: int) -> Executor:
    """The executor that ``choice`` (auto, openvino, torch, null) means on this machine."""
    if choice == "null":
        return NullExecutor(len(artifact.manifest.classes))
    cuda = torch.cuda.is_available()
    if choice == "torch" or (choice == "auto" and cuda):
        device = torch.device("cuda" if cuda else "cpu")
        return TorchExecutor(artifact.net, artifact.manifest.input, device)
    # Imported where it is used: a CUDA machine need not load OpenVINO.
    from service.engine.openvino_executor import OpenVinoExecutor

    return OpenVinoExecutor(artifact.net, artifact.manifest.input, threads)


def prepare(model: LoadedModel) -> None:
    """Compile all spans that requests may use."""
    for span in model.served_spans():
        model.executor.prepare(span)


def warm_up(model: LoadedModel) -> None:
    """Compile everything and run the policy's path once on a grey image."""
    spec = model.manifest.input
    prepare(model)
    plan = model.plan(None, None, True)
    features: tuple[torch.Tensor, ...] = (
        torch.full((1, 3, spec.height, spec.width), 127, dtype=torch.uint8),
    )
    for span in plan.spans():
        features, _ = model.executor.run(span, features)
        features = tuple(x.clone() for x in features)
