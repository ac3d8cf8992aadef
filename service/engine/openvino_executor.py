"""Spans on the CPU through OpenVINO: 5-7 times eager torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model_store.exits import Confidence
from model_store.nets.staged import Features, Span
from service.engine.executors import Executor
from service.engine.openvino_graph import SpanGraphs
from service.engine.openvino_import import openvino
from service.engine.reading import read_rows

Precision = Literal["f32", "bf16"]

KERNELS_KEPT = 1000
"""Kernels that a program for all batch sizes keeps; the least recently used goes first.

OpenVINO's default is 5,000. With 200, batches of random size up to 32 took twice as long an image as batches
of one size (842 against 427 µs, stage 1), with 1,000 a third longer, with 5,000 no less (one thread of a Xeon
with AVX512, n = 150). The property is not in its documentation.
"""

COMPILER = ThreadPoolExecutor(1, thread_name_prefix="compiler")
"""Compiles one program after the other, in the order in which they are wanted.

With two threads in OpenVINO's compiler one start of about 120 never ended.
"""


class OpenVinoExecutor(Executor):
    """Cuts each span out of one graph and compiles it on demand, in about 0.1 s.

    A program compiled for any batch size prepares itself anew for each size that differs from the last one:
    2 ms where it knows the size, 8 ms else, as long as stage 1 takes for 5 and 20 images. So small networks
    run batches of a few sizes only, filled up to the next one, and spans that are run often have a program
    for each size. Results do not depend on the other images of a batch, but sizes have kernels of their own:
    the last bits may.
    """

    def __init__(
        self,
        graphs: SpanGraphs,
        threads: int,
        precision: Precision,
        sizes: Sequence[int] = (),
    ) -> None:
        """Prepare to run ``graphs``.

        Args:
            graphs: The converted network.
            threads: Processor threads per launch; 0 takes all cores but one where batches have sizes, and all
                of them else: launches of large networks are long, and the event loop has little to do then.
            precision: To compute in, or what is not int8 of an int8 graph.
            sizes: Batch sizes to run, rising; larger batches run as they are, and all of them without any.
        """
        self._core = openvino.Core()
        self._precision = precision
        self._threads = threads or max(1, _cores() - bool(sizes))
        self._config = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS_KEPT,
        }
        self._sizes = tuple(sizes)
        self._graphs = graphs
        self._programs: dict[Span, dict[int, _Fixed]] = {}
        self._flexible: dict[Span, _Flexible] = {}

    @property
    def device(self) -> str:
        """``CPU bf16``, ``CPU f32`` or ``CPU int8``."""
        return f"CPU {'int8' if self._graphs.int8 else self._precision}"

    @property
    def threads(self) -> int:
        """As given, or by the cores of the machine."""
        return self._threads

    def prepare(self, span: Span, often: bool = False) -> None:
        """Cut ``span`` out of the graph and compile it; ``often`` for every other batch size of its own."""
        if often and self._sizes:
            self._compile_for(span, (*self._sizes[::-2], 1))
        else:
            self._flexible_program(span)

    def refine(self, span: Span) -> None:
        """Compile ``span`` for all batch sizes."""
        self._compile_for(span, self._sizes)

    def images_run(self, span: Span, images: int) -> int:
        """The next batch size that is run."""
        return _next_size(self._programs.get(span) or self._sizes, images)

    def inputs(self, span: Span, images: int) -> Features:
        """The inputs of the program that will run the batch."""
        size, program = self._chosen(span, images)
        return program.views(images, size)[0]

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """See ``Executor.run``; outputs are views of the program's own buffers."""
        images = len(features[0])
        size, program = self._chosen(span, images)
        inputs, _ = program.views(images, size)
        for room, x in zip(inputs, features, strict=True):
            if room.data_ptr() != x.data_ptr():
                np.copyto(room.numpy(), x.numpy())
        program.run(size)
        _, (logits, *rest) = program.views(images, size)
        return tuple(rest), logits

    def read(self, logits: Tensor, measure: Confidence, temperature: float, whole: bool) -> Tensor:
        """See ``Executor.read``."""
        return torch.from_numpy(read_rows(logits.numpy(), measure, temperature, whole))

    def _chosen(self, span: Span, images: int) -> tuple[int, _Fixed | _Flexible]:
        """The size to run ``images`` in, and the program for it."""
        programs = self._programs.get(span, {})
        size = _next_size(programs or self._sizes, images)
        fixed = programs.get(size)
        return size, self._flexible_program(span) if fixed is None else fixed

    def _compile_for(self, span: Span, sizes: Sequence[int]) -> None:
        for size in sizes:
            if size not in self._programs.get(span, {}):
                COMPILER.submit(self._add, span, size).result()

    def _flexible_program(self, span: Span) -> _Flexible:
        if span not in self._flexible:
            COMPILER.submit(self._add_flexible, span).result()
        return self._flexible[span]

    def _add(self, span: Span, size: int) -> None:
        """For the compiler's thread: who else wanted it has waited before and finds it."""
        programs = self._programs.get(span, {})
        if size not in programs:
            programs = {**programs, size: _Fixed(self._compile(span, size))}
            self._programs[span] = dict(sorted(programs.items()))  # as a whole: it may be run meanwhile

    def _add_flexible(self, span: Span) -> None:
        if span not in self._flexible:
            self._flexible[span] = _Flexible(self._compile(span, -1))

    def _compile(self, span: Span, images: int) -> openvino.InferRequest:
        model = self._graphs.cut(span, images)
        return self._core.compile_model(model, "CPU", self._config).create_infer_request()


def _next_size(sizes: Iterable[int], images: int) -> int:
    """The first of the rising ``sizes`` that holds ``images``; beyond them batches run as they are."""
    return next((size for size in sizes if size >= images), images)


Views = tuple[Features, Features]
"""The first rows of a program's inputs and outputs."""


class _Fixed:
    """A program for one batch size, with inputs and outputs of its own that never move."""

    def __init__(self, request: openvino.InferRequest) -> None:
        self._request = request
        for tensor in request.input_tensors:
            # Rows that only fill a batch up are computed, too: with what memory happens to hold, numbers near
            # zero (denormal ones) among it, they took 10 times as long, and the service answered 12 % less.
            tensor.data.fill(0)
        self._whole = (_tensors(request.input_tensors), _tensors(request.output_tensors))
        self._views: dict[int, Views] = {}

    def views(self, images: int, _: int) -> Views:
        if images not in self._views:  # made once: to slice a tensor hands the interpreter over
            inputs, outputs = self._whole
            self._views[images] = tuple(x[:images] for x in inputs), tuple(x[:images] for x in outputs)
        return self._views[images]

    def run(self, _: int) -> None:
        self._request.infer({}, share_outputs=True)


class _Flexible:
    """A program for all batch sizes."""

    def __init__(self, request: openvino.InferRequest) -> None:
        self._request = request
        self._inputs: Features = ()
        self._outputs: Features = ()

    def views(self, images: int, size: int) -> Views:
        if not self._inputs or len(self._inputs[0]) < size:
            self._inputs = tuple(_zeros(size, port) for port in self._request.model_inputs)
        return tuple(x[:images] for x in self._inputs), tuple(x[:images] for x in self._outputs)

    def run(self, size: int) -> None:
        inputs, _ = self.views(size, size)
        results = self._request.infer([x.numpy() for x in inputs], share_inputs=True, share_outputs=True)
        self._outputs = tuple(torch.from_numpy(results[port]) for port in range(len(results)))


def _tensors(tensors: Sequence[openvino.Tensor]) -> Features:
    return tuple(torch.from_numpy(tensor.data) for tensor in tensors)


def _zeros(images: int, port: openvino.ConstOutput) -> Tensor:
    """Room for a batch at an input whose batch size is open."""
    shape = [size.get_length() for size in list(port.partial_shape)[1:]]
    return torch.from_numpy(np.zeros([images, *shape], port.element_type.to_dtype()))


def precision_named(name: str) -> Precision:
    """What ``name`` means for floating point: ``auto`` is bf16 where the processor has matrix units for it.

    So is ``int8``, which is a property of the graph and leaves the rest of it to this.

    AVX512-BF16 alone is no reason: there bf16 took 1.35 to 1.5 times as long as float32 (fusion network, one
    thread of a Xeon, spans 1, 2-3, 4-7 and 1-7, batches of 8 and 32, medians of 12 to 25).
    """
    if name not in ("auto", "int8"):
        return "bf16" if name == "bf16" else "f32"
    return "bf16" if torch.cpu.get_capabilities().get("amx_bf16") else "f32"


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
