"""Converted networks that outlive the process: the next start reads them, in 0.06 instead of 0.9 s.

OpenVINO's own cache of compiled programs saved nothing: 18 of them took 1.4 to 1.6 s with it, 1.4 s without.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path

import torch

import model_store.nets
import service.engine.openvino_graph
from model_store.nets.staged import StagedNet
from model_store.preprocess import InputSpec
from service.engine.openvino_graph import SpanGraphs, convert, read_graphs
from service.engine.openvino_import import openvino

logger = logging.getLogger(__name__)

GRAPH, CONSTANTS, SHA256 = ".xml", ".bin", ".sha256"


def convert_once(net: StagedNet, spec: InputSpec, weights_sha256: str, folder: Path) -> SpanGraphs:
    """What ``convert`` makes, from ``folder`` if it is there, else to be found there the next time.

    The files' name is a hash of the weights, of the code of the networks and of the versions of what
    converts: a change of any of them converts anew. So does damage: the files' own hash is kept beside them.

    Args:
        net: The network.
        spec: Input size and normalisation.
        weights_sha256: From the manifest.
        folder: Where graphs are kept. One that cannot be used costs time and nothing else.
    """
    try:
        stem = folder.expanduser() / _identity(weights_sha256, spec)
        if (kept := _read(stem)) is not None:
            return kept
    except RuntimeError as error:  # there is no home
        logger.info("graph_not_kept", extra={"folder": str(folder), "reason": str(error)})
        return convert(net, spec)
    graphs = convert(net, spec)
    try:
        _write(stem, graphs)
    except (OSError, RuntimeError) as error:
        logger.info("graph_not_kept", extra={"folder": str(folder), "reason": str(error)})
    return graphs


def _read(stem: Path) -> SpanGraphs | None:
    """What is kept there, if it is whole."""
    try:
        graph, constants = (stem.with_suffix(suffix).read_bytes() for suffix in (GRAPH, CONSTANTS))
        expected = stem.with_suffix(SHA256).read_text()
    except (OSError, UnicodeError):
        return None
    return read_graphs(graph, constants) if _sha256(graph, constants) == expected else None


def _write(stem: Path, graphs: SpanGraphs) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=stem.parent) as folder:
        partial = Path(folder) / stem.name
        openvino.save_model(graphs.model, partial.with_suffix(GRAPH), compress_to_fp16=False)
        contents = [partial.with_suffix(suffix).read_bytes() for suffix in (GRAPH, CONSTANTS)]
        partial.with_suffix(SHA256).write_text(_sha256(*contents))
        for suffix in (GRAPH, CONSTANTS, SHA256):  # files of two writers do not fit this hash
            partial.with_suffix(suffix).replace(stem.with_suffix(suffix))


def _sha256(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _identity(weights_sha256: str, spec: InputSpec) -> str:
    digest = hashlib.sha256(f"{weights_sha256} {spec!r} {torch.__version__} {openvino.__version__}".encode())
    code = [*Path(model_store.nets.__path__[0]).glob("*.py"), Path(service.engine.openvino_graph.__file__)]
    for path in sorted(code):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
