"""From an artifact in the store to a model that is compiled and warm."""

from __future__ import annotations

import logging
import time

import torch

from model_store.policy import path_flops
from model_store.store import Artifact, ArtifactBroken, ArtifactNotFound, Store
from service.engine.executors import Executor, TorchExecutor, batch_sizes
from service.engine.loaded import LoadedModel
from service.engine.null_executor import NullExecutor
from service.settings import Settings

logger = logging.getLogger(__name__)

SMALL_FLOPS = 2e8
"""Networks of fewer FLOPs run batches of a few sizes on a CPU, where a change of size takes as long as some
images. Larger ones, which have larger features too, would pay for it with memory."""


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
        model = LoadedModel(artifact.manifest, _executor(artifact, settings))
        warm_up(model)
    except Exception as error:  # whatever a compiler may raise
        raise ArtifactBroken(f"{wanted} cannot be run: {error}") from error
    seconds = round(time.monotonic() - started_s, 3)
    logger.info(
        "model_loaded", extra={"model": model.key, "device": model.executor.device, "seconds": seconds}
    )
    return model


def _executor(artifact: Artifact, settings: Settings) -> Executor:
    return make_executor(
        artifact, settings.executor, settings.threads, settings.precision, settings.max_batch
    )


def make_executor(
    artifact: Artifact, choice: str, threads: int = 0, precision: str = "auto", max_batch: int = 0
) -> Executor:
    """The executor for ``artifact`` on this machine.

    Args:
        artifact: Network and manifest.
        choice: auto, openvino, torch or null.
        threads: Of OpenVINO, per launch; 0 takes all cores but one.
        precision: auto, or one of OpenVINO's.
        max_batch: Images of the largest batch in service; 0 to run batches of any size as they are.
    """
    if choice == "null":
        return NullExecutor(len(artifact.manifest.classes))
    cuda = torch.cuda.is_available()
    if choice == "torch" or (choice == "auto" and cuda):
        device = torch.device("cuda" if cuda else "cpu")
        return TorchExecutor(artifact.net, artifact.manifest.input, device)
    # Imported where it is used: a CUDA machine need not load OpenVINO.
    from service.engine.openvino_executor import OpenVinoExecutor, precision_named

    stages = artifact.manifest.stages
    small = path_flops(stages, range(len(stages)))[-1] < SMALL_FLOPS
    sizes = batch_sizes(max_batch) if small and max_batch else ()
    return OpenVinoExecutor(artifact.net, artifact.manifest.input, threads, precision_named(precision), sizes)


def prepare(model: LoadedModel) -> None:
    """Compile all spans that requests may use."""
    default = model.default_spans()
    for span in model.served_spans():
        model.executor.prepare(span, often=span in default)


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
