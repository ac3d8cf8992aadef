"""FLOPs of a staged network. One FLOP is one multiply-add of a convolution or linear layer.

Biases, BatchNorm, activations and pooling are not counted, as in the papers that the project follows.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from model_store.nets.staged import COUNTED, Features, StagedNet


@dataclass(frozen=True)
class StageFlops:
    """FLOPs of one stage for one image, block and head apart."""

    block: int
    head: int


def count_stages(net: StagedNet, height: int, width: int) -> tuple[StageFlops, ...]:
    """FLOPs of each stage of ``net``, see ``measure_stages``."""
    return measure_stages(net, height, width)[0]


def measure_stages(net: StagedNet, height: int, width: int) -> tuple[tuple[StageFlops, ...], tuple[int, ...]]:
    """Count each stage of ``net`` by running a copy on one image of ``height`` x ``width`` pixels.

    Every element that a convolution or linear layer puts out costs as many multiply-adds as one of its rows
    of weights has. PyTorch's ``FlopCounterMode`` agrees (a test sees to it), but would import 800 modules at
    every start of a server: 75 MB and a second.

    Returns:
        FLOPs of each stage, and how many classes each head tells apart.
    """
    counted = copy.deepcopy(net).eval()
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, COUNTED)
        total += output.numel() * layer.weight[0].numel()

    for module in counted.modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(count)
    device = next(counted.parameters()).device
    features: Features = (torch.zeros(1, 3, height, width, device=device),)
    counts, classes = [], []
    with torch.no_grad():
        for block, head in zip(counted.blocks, counted.heads, strict=True):
            before = total
            features = block(features)
            of_block = total - before
            classes.append(head(features).shape[1])
            counts.append(StageFlops(of_block, total - before - of_block))
    return tuple(counts), tuple(classes)


def dense_flops(stages: tuple[StageFlops, ...]) -> tuple[int, ...]:
    """FLOPs to reach each exit when all earlier heads run too: the figures that papers report."""
    return tuple(accumulate(stage.block + stage.head for stage in stages))


def direct_flops(stages: tuple[StageFlops, ...]) -> tuple[int, ...]:
    """FLOPs to reach each exit when its head is the only one that runs."""
    blocks = accumulate(stage.block for stage in stages)
    return tuple(total + stage.head for total, stage in zip(blocks, stages, strict=True))
