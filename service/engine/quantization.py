"""From a converted network to one whose convolutions compute in int8, through NNCF.

NNCF watches the network on some images, notes the range of values before each layer, and writes it into the
graph. The results keep their names, so that spans are cut out of an int8 graph as out of any other.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model_store.hardware import hardware
from model_store.quantized import Int8Exit, Int8Graph, Int8Record, file_sha256
from model_store.store import Artifact
from model_store.training.data import Rows
from model_store.training.scores import Scores, collect_path
from service.engine.nncf_import import nncf
from service.engine.openvino_executor import OpenVinoExecutor
from service.engine.openvino_graph import SpanGraphs, convert
from service.engine.openvino_import import openvino

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def make_int8(
    artifact: Artifact,
    calibration: Rows,
    check: Rows,
    mixed: bool = False,
    report: OnProgress = lambda what, done, of: None,
) -> Int8Graph:
    """Quantize a network and judge both precisions exit by exit, each stage as it is served.

    Args:
        artifact: The network.
        calibration: Images from which NNCF takes the ranges of values.
        check: Other rows, to judge on.
        mixed: NNCF's preset "mixed": ranges of features need not lie evenly about 0.
        report: Told how far it is.

    Returns:
        The graph and its record, to be given to ``write_int8``.
    """
    graphs = convert(artifact.net, artifact.manifest.input)
    plain = _judge(graphs, check, lambda i, n: report("float32 on budget-check rows", i, n))
    int8 = quantize(graphs, calibration.images, mixed, lambda i, n: report("calibration", i, n))
    coarse = _judge(int8, check, lambda i, n: report("int8 on budget-check rows", i, n))
    graph, constants = _encode(int8.model)
    record = Int8Record(
        weights_sha256=artifact.manifest.weights_sha256,
        graph_sha256=file_sha256(graph),
        constants_sha256=file_sha256(constants),
        preset="mixed" if mixed else "performance",
        calibration=calibration.source,
        judged=check.source,
        count=len(check),
        exits=compare(plain, coarse),
        hardware=hardware(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries={"nncf": nncf.__version__, "openvino": openvino.__version__},
    )
    return Int8Graph(graph, constants, record)


def quantize(
    graphs: SpanGraphs,
    images: Tensor,
    mixed: bool = False,
    on_images: Callable[[int, int], None] = lambda done, of: None,
) -> SpanGraphs:
    """The same network in int8.

    Args:
        graphs: The network in float32, which stays as it is.
        images: uint8 (N, 3, H, W), for the ranges of values.
        mixed: As ``make_int8`` takes it.
        on_images: Told the images seen and how many there are; they are gone through more than once.
    """
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function sets everybody's handlers
    presets = nncf.QuantizationPreset
    with contextlib.redirect_stdout(io.StringIO()):  # bars of its own, where our results go
        model = nncf.quantize(
            graphs.model,
            nncf.Dataset(_Watched(images.numpy(), on_images)),
            preset=presets.MIXED if mixed else presets.PERFORMANCE,
            subset_size=len(images),
        )
    return SpanGraphs(model)


def compare(plain: Scores, coarse: Scores) -> tuple[Int8Exit, ...]:
    """Exit by exit: what is right in float32 and in int8, on the same rows."""
    rights = zip(plain.correct, coarse.correct, plain.predictions == coarse.predictions, strict=True)
    return tuple(
        Int8Exit(
            exit=k,
            float32_accuracy=float(before.mean()),
            int8_accuracy=float(after.mean()),
            standard_error=float(np.std(after.astype(float) - before) / len(before) ** 0.5),
            agreement=float(same.mean()),
        )
        for k, (before, after, same) in enumerate(rights, start=1)
    )


@dataclass(frozen=True)
class _Watched:
    """Images one by one, each a batch, and somebody who is told how many were taken."""

    images: NDArray[np.uint8]
    on_images: Callable[[int, int], None]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for taken, image in enumerate(self.images, start=1):
            yield image[None]
            self.on_images(taken, len(self.images))

    def __len__(self) -> int:
        return len(self.images)


def _judge(graphs: SpanGraphs, rows: Rows, on_rows: Callable[[int, int], None]) -> Scores:
    executor = OpenVinoExecutor(graphs, threads=0, precision="f32")
    return collect_path(executor, range(graphs.stages), rows, on_rows=on_rows)


def _encode(model: openvino.Model) -> tuple[bytes, bytes]:
    """Graph and constants as OpenVINO's files hold them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
