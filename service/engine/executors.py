"""What runs one span on a device, and the reference that the others are tested against."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor

from model_store import exits
from model_store.nets.staged import Features, Span, SpanProgram, StagedNet, fold_batch_norm
from model_store.preprocess import InputSpec


class Executor(Protocol):
    """Runs spans of one network; one thread at a time, but another one may ``prepare``.

    What has a body here is right for every executor that pads nothing and has no buffers of its own.
    """

    @property
    @abstractmethod
    def device(self) -> str:
        """Where it runs and in which precision, for people: ``CPU f32``."""
        ...

    @abstractmethod
    def prepare(self, span: Span, often: bool = False) -> None:
        """Compile ``span`` now rather than at its first run; what is run ``often`` is worth more memory."""
        ...

    def refine(self, span: Span) -> None:
        """Compile what makes launches of ``span``, which is run often, faster than ``prepare`` has made them.

        Nobody need wait for it: what is prepared already may be run meanwhile.
        """
        return

    def inputs(self, span: Span, images: int) -> Features | None:
        """Where a batch of ``images`` is best laid down before ``run``: their own buffers, if it has any.

        Args:
            span: What is to be run next.
            images: B, the images of the batch.

        Returns:
            Tensors shaped as the features that ``run`` takes, to be filled and passed to it; for a span from
            block 0 images, uint8 (B, 3, H, W), on the CPU. ``None``: any tensors do.
        """
        return None

    @abstractmethod
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

    def read(self, logits: Tensor, measure: exits.Confidence, temperature: float, whole: bool) -> Tensor:
        """What ``exits.read`` says of the logits that ``run`` returned, on the CPU: one copy for the batch.

        It has come when this returns, and is valid until the next call.
        """
        return exits.read(logits, measure, temperature, whole).cpu()

    @property
    def threads(self) -> int:
        """Processor threads that compute a launch."""
        return 1

    def images_run(self, span: Span, images: int) -> int:
        """Images that a launch of ``images`` really computes, those that only fill it up included."""
        return images


def batch_sizes(most: int) -> tuple[int, ...]:
    """Batch sizes to have programs for, rising: powers of two, and ``most`` images."""
    return (*(size for size in (2**i for i in range(most.bit_length())) if size < most), most)


def triangular_sizes(most: int) -> tuple[int, ...]:
    """The same where filling up costs time: triangular numbers well below ``most``, and ``most`` images.

    Up to 16 they are 1, 3, 6, 10 and 16. To fill batches of 1 to 16 images up to them takes 18 % more images,
    to as many powers of two 26 %.
    """
    triangular = (n * (n + 1) // 2 for n in range(1, most + 1))
    return (*takewhile(lambda size: size * 5 < most * 4, triangular), most)


def kept(features: Features, rows: Sequence[int]) -> Features:
    """Copies of the given rows, where the features are and laid out as they are."""
    on_device = features[0].device
    if on_device.type == "cpu" and all(x.is_contiguous() for x in features):
        # One call each: every call of torch hands the interpreter over and may wait to get it back.
        return tuple(torch.from_numpy(x.numpy().take(rows, axis=0)) for x in features)
    # One small upload for all of them; from pageable memory a device would have to be waited for.
    index = torch.tensor(rows, pin_memory=on_device.type == "cuda").to(on_device, non_blocking=True)
    return tuple(torch.index_select(x, 0, index, out=torch.empty_like(x[: len(rows)])) for x in features)


class TorchExecutor(Executor):
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

    def prepare(self, span: Span, often: bool = False) -> None:
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
