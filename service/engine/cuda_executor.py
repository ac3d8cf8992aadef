"""Spans on an NVIDIA GPU: bf16, channels last, one CUDA graph for each span and batch size."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model_store.exits import Confidence
from model_store.nets.staged import Features, Span, StagedNet, fold_batch_norm
from model_store.preprocess import InputSpec
from service.engine.cuda_device import Device
from service.engine.cuda_reading import ExitReader
from service.engine.executors import Executor, batch_sizes

GRAPHS_KEPT = 256
"""Graphs of spans that a model keeps; the oldest goes first. The driver holds memory for each, and a model
with 7 exits and batches up to 32 has up to 28 spans in 6 sizes."""


class _Launch(NamedTuple):
    """A span at one batch size: how to run it, and where its results are: logits first, then features."""

    run: Callable[[], None]
    outputs: Features


class CudaExecutor(Executor):
    """Pads a batch to the next size in ``sizes`` and runs what was recorded for that size.

    A graph reads and writes the same memory every time. So each boundary between blocks has one set of input
    tensors, and each span one of outputs, as long as the largest batch; a smaller size uses their first rows.
    Rows that only pad hold what was there before: no operation of a network mixes rows.

    One launch is, on the host: an upload from pinned memory or a copy per feature, the start of a graph, the
    start of another one that reads the exit, one small download and the wait for it. Several streams could
    not help: the worker decides upon each launch before it forms the next, so there are never two to overlap.
    """

    def __init__(
        self,
        net: StagedNet,
        spec: InputSpec,
        device: Device,
        max_batch: int,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """Move a folded copy of ``net`` to the device and see what its blocks hand on.

        Args:
            net: The network.
            spec: Input size and normalisation.
            device: Records and runs.
            max_batch: Images of the largest batch.
            dtype: Of weights and features; the linear layers of heads are float32.
        """
        place = device.place
        self._net = _converted(net, place, dtype)
        self._device, self._dtype = device, dtype
        self._mean = torch.tensor(spec.mean, device=place).view(1, 3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(spec.std, device=place).view(1, 3, 1, 1) * 255)
        self.sizes = batch_sizes(max_batch)
        self._launches: dict[tuple[Span, int], _Launch] = {}
        self._outputs: dict[Span, Features] = {}
        self._recording = threading.Lock()
        pinned = place.type == "cuda"
        shape = (max_batch, 3, spec.height, spec.width)
        self._staging = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)
        self._uploaded = device.mark()
        self._inputs: list[Features] = [(torch.zeros(shape, dtype=torch.uint8, device=place),)]
        with torch.inference_mode():
            features: Features = (self._normalised(self._inputs[0][0][:1]),)
            boundaries: list[Features] = []
            for k in range(net.stages):
                features, logits = self._net.run_stage(k, features)
                boundaries.append(features)
        self._inputs += [_rows_like(features, max_batch) for features in boundaries[:-1]]
        self._reader = ExitReader(device, self.sizes, logits.shape[1])

    @property
    def device(self) -> str:
        """``cuda:0 bfloat16 graphs``."""
        return f"{self._device.place} {str(self._dtype).removeprefix('torch.')} {self._device.kind}"

    def prepare(self, span: Span, often: bool = False) -> None:
        """Record ``span`` in all batch sizes, the largest first: its memory then suffices for the others."""
        for size in reversed(self.sizes):
            self._launch(span, size)

    def inputs(self, span: Span, images: int) -> Features:
        """See ``Executor.inputs``: pinned memory for images, else what the graphs of ``span`` read."""
        if span.first > 0:
            return tuple(x[:images] for x in self._inputs[span.first])
        self._uploaded()  # an upload still under way would see what is written next
        return (self._staging[:images],)

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """See ``Executor.run``; a size that is not recorded yet is recorded now.

        Raises:
            ValueError: The batch is larger than ``max_batch``.
        """
        images = len(features[0])
        launch = self._launch(span, self.images_run(span, images))
        for given, room in zip(features, self.inputs(span, images), strict=True):
            if given.data_ptr() != room.data_ptr():
                room.copy_(given, non_blocking=room.is_cuda)
        if span.first == 0:
            self._inputs[0][0][:images].copy_(self._staging[:images], non_blocking=True)
            self._uploaded = self._device.mark()
        launch.run()
        logits, *rest = (x[:images] for x in launch.outputs)
        return tuple(rest), logits

    def read(self, logits: Tensor, measure: Confidence, temperature: float, whole: bool) -> Tensor:
        """See ``Executor.read``: a graph too, and a copy to pinned memory."""
        return self._reader.read(logits, measure, temperature, whole)

    def images_run(self, span: Span, images: int) -> int:
        """The size that ``images`` are padded to.

        Raises:
            ValueError: There is none.
        """
        at = bisect_left(self.sizes, images)
        if at == len(self.sizes):
            raise ValueError(f"a batch of {images} images is above the largest, {self.sizes[-1]}")
        return self.sizes[at]

    def _launch(self, span: Span, size: int) -> _Launch:
        """The recorded launch of ``span`` for ``size`` images."""
        key = (span, size)
        launch = self._launches.get(key)
        if launch is not None:
            return launch
        with self._recording:  # a model that is served may be prepared for another policy
            if key not in self._launches:
                if len(self._launches) == GRAPHS_KEPT:
                    del self._launches[next(iter(self._launches))]
                self._launches[key] = self._record(span, size)
            return self._launches[key]

    def _record(self, span: Span, size: int) -> _Launch:
        if span not in self._outputs:
            following = self._inputs[span.last + 1] if span.last + 1 < self._net.stages else ()
            self._outputs[span] = tuple(torch.zeros_like(x) for x in (self._reader.logits, *following))
        inputs = tuple(x[:size] for x in self._inputs[span.first])
        outputs = tuple(x[:size] for x in self._outputs[span])
        scratch = tuple(torch.empty_like(x) for x in outputs)  # another size may be running meanwhile
        self._device.warm_up(lambda: self._advance(span, inputs, scratch))
        return _Launch(self._device.record(lambda: self._advance(span, inputs, outputs)), outputs)

    @torch.inference_mode()
    def _advance(self, span: Span, inputs: Features, outputs: Features) -> None:
        """Run ``span``; copy the logits, as float32, and the features for the next span to ``outputs``."""
        features = (self._normalised(inputs[0]),) if span.first == 0 else inputs
        features, logits = self._net.run_span(span, features)
        results = (logits, *features) if span.last + 1 < self._net.stages else (logits,)
        for room, value in zip(outputs, results, strict=True):
            room.copy_(value)

    def _normalised(self, images: Tensor) -> Tensor:
        values = (images.float() - self._mean) * self._scale
        return values.to(self._dtype, memory_format=torch.channels_last)


def _converted(net: StagedNet, place: torch.device, dtype: torch.dtype) -> StagedNet:
    """A folded copy of ``net`` in ``dtype``; linear layers of heads stay float32.

    Logits of 8 to 16 have steps of 1/16 in bf16: too coarse for thresholds, and best classes would tie.
    """
    folded = fold_batch_norm(net).requires_grad_(False)
    precise = [module for module in folded.heads.modules() if isinstance(module, nn.Linear)]
    states = [{name: value.clone() for name, value in module.state_dict().items()} for module in precise]
    folded.to(place, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module, state in zip(precise, states, strict=True):
        module.float().load_state_dict(state)
        module.register_forward_pre_hook(lambda _, given: (given[0].float(),))
    return folded


def _rows_like(features: Features, rows: int) -> Features:
    """Zeros with that many rows, else shaped as ``features``; maps are channels last."""
    return tuple(
        torch.zeros((rows, *x.shape[1:]), dtype=x.dtype, device=x.device).contiguous(
            memory_format=torch.channels_last if x.ndim == 4 else torch.contiguous_format
        )
        for x in features
    )
