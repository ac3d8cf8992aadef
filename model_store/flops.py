"""FLOPs of a staged network. One FLOP is one multiply-add of a convolution or linear layer.

Biases, BatchNorm, activations and pooling are not counted, as in the papers that the project follows.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.utils.flop_counter import FlopCounterMode

from model_store.nets.staged import Features, StagedNet


@dataclass(frozen=True)
class StageFlops:
    """FLOPs of one stage for one image, block and head apart."""

    block: int
    head: int


def count_stages(net: StagedNet, height: int, width: int) -> tuple[StageFlops, ...]:
    """Count each stage of ``net`` for one image of ``height`` x ``width`` pixels; nothing is computed.

    PyTorch's counter counts two per multiply-add and is halved here.
    """
    meta = copy.deepcopy(net).eval().to("meta")
    features: Features = (torch.empty(1, 3, height, width, device="meta"),)
    counts = []
    with torch.no_grad():
        for block, head in zip(meta.blocks, meta.heads, strict=True):
            with FlopCounterMode(display=False) as of_block:
                features = block(features)
            with FlopCounterMode(display=False) as of_head:
                head(features)
            counts.append(StageFlops(of_block.get_total_flops() // 2, of_head.get_total_flops() // 2))
    return tuple(counts)


def dense_flops(stages: tuple[StageFlops, ...]) -> tuple[int, ...]:
    """FLOPs to reach each exit when all earlier heads run too: the figures that papers report."""
    return tuple(accumulate(stage.block + stage.head for stage in stages))


def direct_flops(stages: tuple[StageFlops, ...]) -> tuple[int, ...]:
    """FLOPs to reach each exit when its head is the only one that runs."""
    blocks = accumulate(stage.block for stage in stages)
    return tuple(total + stage.head for total, stage in zip(blocks, stages, strict=True))
