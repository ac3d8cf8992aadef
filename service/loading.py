"""From an artifact in the store to a model that is compiled and warm."""

from __future__ import annotations

import logging
import time

import torch

from model_store.store import Artifact, ArtifactBroken, ArtifactNotFound, Store
from service.engine.executors import Executor, TorchExecutor
from service.engine.loaded import LoadedModel
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
        executor = make_executor(artifact, settings.executor, settings.threads, settings.max_batch)
        model = LoadedModel(artifact.manifest, executor)
        warm_up(model)
    except Exception as error:  # whatever a compiler may raise
        raise ArtifactBroken(f"{wanted} cannot be run: {error}") from error
    seconds = round(time.monotonic() - started_s, 3)
    logger.info(
        "model_loaded", extra={"model": model.key, "device": model.executor.device, "seconds": seconds}
    )
    return model


def make_executor(artifact: Artifact, choice: str, threads: int, max_batch: int) -> Executor:
    """The executor that ``choice`` (auto, cuda, openvino, torch) means on this machine.

    Args:
        artifact: The network and its input.
        choice: As the setting ``executor``.
        threads: As the setting.
        max_batch: Images of the largest batch.

    Raises:
        RuntimeError: ``cuda`` is wanted, and there is no CUDA device.
    """
    cuda = torch.cuda.is_available()
    if choice == "torch":
        device = torch.device("cuda" if cuda else "cpu")
        return TorchExecutor(artifact.net, artifact.manifest.input, device)
    if choice == "cuda" or (choice == "auto" and cuda):
        if not cuda:
            raise RuntimeError("the executor cuda needs a CUDA device, and PyTorch finds none")
        from service.engine.cuda_device import graph_device
        from service.engine.cuda_executor import CudaExecutor

        place = graph_device(torch.device("cuda"))
        return CudaExecutor(artifact.net, artifact.manifest.input, place, max_batch)
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
        features, logits = model.executor.run(span, features)
        for whole in (False, True):
            model.executor.read(logits, model.policy.confidence, 1.0, whole)
        features = tuple(x.clone() for x in features)
