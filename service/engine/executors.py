"""What runs one span on a device, and the reference that the others are tested against."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from model_store.nets.staged import Features, Span, SpanProgram, StagedNet, fold_batch_norm
from model_store.preprocess import InputSpec


class Executor(Protocol):
    """Runs spans of one network; one thread at a time."""

    @property
    def device(self) -> str:
        """Where it runs and in which precision, for people: ``CPU bf16``."""
        ...

    def prepare(self, span: Span) -> None:
        """Compile ``span`` now rather than at its first run."""
        ...

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """Advance a batch through ``span``.

        Args:
            span: Blocks to run and head to read.
            features: What the span before returned, on the executor's device; for a span from block 0 a
                one-tuple of images, uint8 (B, 3, H, W), on the CPU.

        Returns:
            The features for the next span, empty after the last stage, and the logits, float32 (B,
            num_classes). Both are valid until the same span runs again: keep copies of rows, not views.
        """
        ...


class TorchExecutor:
    """Eager PyTorch in float32 with folded BatchNorms: the reference on every device."""

    def __init__(self, net: StagedNet, spec: InputSpec, device: torch.device) -> None:
        """Move a folded copy of ``net`` to ``device``."""
        self._net = fold_batch_norm(net).to(device)
        self._spec = spec
        self._device = device
        self._programs: dict[Span, SpanProgram] = {}

    @property
    def device(self) -> str:
        """``cpu float32`` or ``cuda:0 float32``."""
        return f"{self._device} float32"

    def prepare(self, span: Span) -> None:
        """Wrap ``span``; eager torch compiles nothing."""
        if span not in self._programs:
            program = SpanProgram(self._net, span, self._spec.mean, self._spec.std)
            self._programs[span] = program.to(self._device)

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """See ``Executor.run``."""
        self.prepare(span)
        with torch.inference_mode():
            logits, *rest = self._programs[span](*(x.to(self._device, non_blocking=True) for x in features))
        return tuple(rest), logits
