"""The one abstraction of the project: a network as K stages, each with an exit.

Stage k is block k plus head k. The block turns the features of stage k-1 into those of stage k, the head
reads logits from them. A single-exit network has K = 1. A *span* (i, j) is blocks i..j and head j: what runs
between two consulted exits, as one program.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Features = tuple[Tensor, ...]
"""Batch-first tensors that one block hands to the next; for block 0 a one-tuple of images."""


COUNTED = (nn.Conv2d, nn.Linear)
"""Layers whose multiply-adds count as FLOPs."""


class Span(NamedTuple):
    """Blocks ``first`` to ``last`` (0-based, inclusive) and the head of block ``last``."""

    first: int
    last: int

    def __str__(self) -> str:
        """1-based, as people see stages: ``1-4``, or ``3`` for a single stage."""
        return f"{self.first + 1}-{self.last + 1}" if self.first != self.last else f"{self.last + 1}"


class StagedNet(nn.Module):
    """K blocks with a head each; images enter normalised, float32 (B, 3, H, W).

    Attributes:
        blocks: K modules that map ``Features`` to ``Features``.
        heads: K modules that map ``Features`` to logits, float32 (B, num_classes).
    """

    def __init__(self, blocks: Iterable[nn.Module], heads: Iterable[nn.Module]) -> None:
        """Join blocks and heads.

        Raises:
            ValueError: There are no stages, or not one head for each block.
        """
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleList(heads)
        if not self.blocks or len(self.blocks) != len(self.heads):
            raise ValueError(
                f"a staged network needs one head per block, got {len(self.blocks)} blocks "
                f"and {len(self.heads)} heads"
            )

    @property
    def stages(self) -> int:
        """K, the number of exits."""
        return len(self.blocks)

    def run_stage(self, k: int, features: Features) -> tuple[Features, Tensor]:
        """Advance a batch through stage ``k`` and read its head.

        Args:
            k: Stage index, 0-based, in depth order.
            features: Output of stage ``k - 1``; for ``k == 0`` a one-tuple holding the normalised images.

        Returns:
            The features for stage ``k + 1`` and the logits, float32 (B, num_classes).

        Raises:
            IndexError: ``k`` is not a stage of this network.

        Source: Huang et al. 2018, arXiv:1703.09844, section 4.
        """
        return self.run_span(Span(k, k), features)

    def run_span(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """Advance a batch through the blocks of ``span`` and read its last head.

        Raises:
            IndexError: ``span`` is not a span of this network.
        """
        if not 0 <= span.first <= span.last < self.stages:
            raise IndexError(f"span {tuple(span)} is not within the {self.stages} stages of this network")
        for k in range(span.first, span.last + 1):
            features = self.blocks[k](features)
        return features, self.heads[span.last](features)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the logits of all K exits, in depth order, for normalised images (B, 3, H, W)."""
        features: Features = (images,)
        logits = []
        for block, head in zip(self.blocks, self.heads, strict=True):
            features = block(features)
            logits.append(head(features))
        return logits


def fold_batch_norm(net: StagedNet) -> StagedNet:
    """Return a copy in evaluation mode whose BatchNorms are folded into the convolutions before them.

    Same function up to rounding, fewer kernels. Only a BatchNorm right behind a convolution in a
    ``nn.Sequential`` is folded; others stay.
    """
    folded = copy.deepcopy(net).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module, list(module.named_children()))
    return folded


def _fold_sequence(sequence: nn.Sequential, children: Sequence[tuple[str, nn.Module]]) -> None:
    """Replace each (convolution, BatchNorm) pair of ``sequence`` by (fused convolution, identity)."""
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(sequence, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(sequence, norm_name, nn.Identity())


class SpanProgram(nn.Module):
    """One span as a plain module for compilers: tensors in, (logits, features...) out.

    A span that starts at block 0 takes raw images, uint8 (B, 3, H, W), and normalises them itself, so that no
    float image ever crosses a queue. A span that ends at the last stage returns the logits alone.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: StagedNet, span: Span, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap ``span`` of ``net``; ``mean`` and ``std`` per channel in units of 0..1."""
        super().__init__()
        self.net = net
        self.span = span
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(std).view(1, -1, 1, 1) * 255))

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Run the span; the logits come first, float32 (B, num_classes)."""
        if self.span.first == 0:
            features = ((features[0].float() - self.mean) * self.scale,)
        features, logits = self.net.run_span(self.span, features)
        return (logits,) if self.span.last == self.net.stages - 1 else (logits, *features)
