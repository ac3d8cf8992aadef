"""From an artifact in the store to a model that is compiled and warm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from model_store.policy import path_flops
from model_store.quantized import GRAPH, read_int8
from model_store.store import Artifact, ArtifactBroken, ArtifactNotFound, Store, StoreError
from model_store.verify import one_line
from service.engine.executors import Executor, TorchExecutor, triangular_sizes
from service.engine.health import run_grey
from service.engine.loaded import LoadedModel
from service.engine.null_executor import NullExecutor
from service.settings import CACHE, Settings

if TYPE_CHECKING:
    from service.engine.openvino_graph import SpanGraphs

logger = logging.getLogger(__name__)

SMALL_FLOPS = 2e8
"""Networks of fewer FLOPs run batches of a few sizes on a CPU, where a change of size takes as long as some
images. Larger ones, which have larger features too, would pay for it with memory."""


def load_model(settings: Settings, wanted: str) -> LoadedModel:
    """Load and warm up an artifact, ``name`` (its latest version) or ``name@version``.

    What only some requests use is compiled at its first use, unless ``prepare`` has been there before.

    Raises:
        StoreError: It is missing or broken.
    """
    started_s = time.monotonic()
    name, at, version = wanted.partition("@")
    if at and not version.isdecimal():
        raise ArtifactNotFound(f"{wanted!r} is neither a name nor name@version")
    artifact = Store(settings.model_store).load(name, int(version) if at else None)
    try:
        executor = make_executor(
            artifact,
            settings.executor,
            settings.max_batch,
            settings.threads,
            settings.precision,
            settings.cache_dir,
        )
        model = LoadedModel(artifact.manifest, executor)
        warm_up(model)
    except StoreError:
        raise
    except Exception as error:  # whatever a compiler may raise
        raise ArtifactBroken(f"{artifact.folder} cannot be run: {one_line(error)}") from error
    seconds = round(time.monotonic() - started_s, 3)
    logger.info(
        "model_loaded", extra={"model": model.key, "device": model.executor.device, "seconds": seconds}
    )
    return model


def make_executor(
    artifact: Artifact,
    choice: str,
    max_batch: int,
    threads: int = 0,
    precision: str = "auto",
    cache: Path = CACHE,
) -> Executor:
    """The executor for ``artifact`` that ``choice`` means on this machine.

    Args:
        artifact: The network and its manifest.
        choice: As the setting ``executor``.
        max_batch: Images of the largest batch.
        threads: As the setting.
        precision: As the setting.
        cache: Folder of converted graphs.

    Raises:
        RuntimeError: ``cuda`` is wanted, and there is no CUDA device.
    """
    net, spec, cuda = artifact.net, artifact.manifest.input, torch.cuda.is_available()
    if choice == "null":
        return NullExecutor(len(artifact.manifest.classes))
    if choice == "torch":
        return TorchExecutor(net, spec, torch.device("cuda" if cuda else "cpu"))
    if choice == "cuda" or (choice == "auto" and cuda):
        if not cuda:
            raise RuntimeError("the executor cuda needs a CUDA device, and PyTorch finds none")
        from service.engine.cuda_device import graph_device
        from service.engine.cuda_executor import CudaExecutor

        return CudaExecutor(net, spec, graph_device(torch.device("cuda")), max_batch)
    # Imported where it is used: a CUDA machine need not load OpenVINO.
    from service.engine.kept_graphs import convert_once
    from service.engine.openvino_executor import OpenVinoExecutor, precision_named

    graphs = int8_graphs(artifact) if precision == "int8" else None
    if graphs is None:
        graphs = convert_once(net, spec, artifact.manifest.weights_sha256, cache)
    stages = artifact.manifest.stages
    small = path_flops(stages, range(len(stages)))[-1] < SMALL_FLOPS
    return OpenVinoExecutor(
        graphs, threads, precision_named(precision), triangular_sizes(max_batch) if small else ()
    )


def int8_graphs(artifact: Artifact) -> SpanGraphs | None:
    """The int8 graph that was made for ``artifact``, or None, which the log tells.

    Raises:
        ArtifactBroken: It is damaged, or of other weights.
    """
    from service.engine.openvino_graph import read_graphs

    manifest = artifact.manifest
    found = read_int8(artifact.folder, manifest.weights_sha256)
    if found is None:
        logger.warning("int8_missing", extra={"model": f"{manifest.name}@{manifest.version}"})
        return None
    try:
        graphs = read_graphs(found.graph, found.constants)
    except RuntimeError as error:
        path = artifact.folder / GRAPH
        raise ArtifactBroken(
            f"{path}: not an int8 graph; run exitramp quantize: {one_line(error)}"
        ) from error
    if graphs.stages != len(manifest.exits):
        path, count = artifact.folder / GRAPH, len(manifest.exits)
        raise ArtifactBroken(f"{path}: an int8 graph of {graphs.stages} stages, the network has {count}")
    return graphs


def prepare(model: LoadedModel) -> None:
    """Compile all that requests may use."""
    for step in _preparations(model):
        step()


def prepare_meanwhile(model: LoadedModel, stopping: Callable[[], bool]) -> None:
    """The same while it serves, until ``stopping``; what fails is logged, and tried anew once needed."""
    for step in _preparations(model):
        if stopping():
            return
        try:
            step()
        except Exception:  # whatever a compiler may raise
            logger.exception("prepare_failed", extra={"model": model.key})


def _preparations(model: LoadedModel) -> Iterator[Callable[[], None]]:
    """What most requests use, then what somebody may have to wait for, then what makes launches faster."""
    default, executor = model.default_spans(), model.executor
    for span in default:
        yield partial(executor.prepare, span, often=True)
    for span in model.served_spans():
        if span not in default:
            yield partial(executor.prepare, span)
    for span in default:
        yield partial(executor.refine, span)


def warm_up(model: LoadedModel) -> None:
    """Compile what requests without a budget of their own need, and run it once on a grey image.

    Raises:
        NotFinite: The network returns what is no number.
    """
    for span in model.default_spans():
        model.executor.prepare(span, often=True)
    plan = model.plan(None, None, True)
    run_grey(model.executor, model.manifest.input, plan.spans(), model.policy.confidence)
