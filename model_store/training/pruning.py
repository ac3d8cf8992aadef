"""Pruning by L1 norm: single weights, which saves nothing on dense kernels, or whole channels.

Source: "SE-Pruned ResNet-18" (Farisi), section III.B. A dependency graph finds the channels that must go
together: Fang et al. 2023, arXiv:2301.12900 (torch-pruning).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from model_store import nets
from model_store.flops import count_stages, dense_flops
from model_store.manifest import Manifest
from model_store.nets.resnet import Residual, SqueezeExcitation
from model_store.nets.staged import StagedNet
from model_store.training.recipe import Recipe

ROUND_TO = 16
"""Channels that are left are a multiple of this: what vector units compute at once. With multiples of 8, a
SE-ResNet-18 of half the width without 31 % of its FLOPs took 14-18 % less time, with these one without 29 %
23-28 % less (OpenVINO, float32, one core, batches of 1 to 128)."""

TEACHER_WEIGHT = 0.7
"""As for the networks that are pruned."""

STEPS = 12
"""Halvings of the interval in which the ratio of channels is searched."""


def parameters(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def prune_channels(
    net: StagedNet, arguments: Mapping[str, Any], side: int, share: float
) -> tuple[StagedNet, dict[str, Any]]:
    """Remove the channels with the smallest L1 norms, the same share of every layer.

    Args:
        net: A ``resnet`` with two convolutions a block.
        arguments: That built it.
        side: Height and width of its images, pixels.
        share: Of the parameters and of the FLOPs to remove; at least so many go of both.

    Returns:
        The smaller network with the weights that are left, and the arguments that build it.

    Raises:
        ValueError: The network is another, or ``share`` is not within 0..0.95.
    """
    if not 0 < share < 0.95:
        raise ValueError(
            f"the share of parameters and FLOPs to prune must be between 0 and 0.95, got {share}"
        )
    blocks = [module for module in net.modules() if isinstance(module, Residual)]
    if net.stages != 1 or not blocks or arguments.get("kind", "basic") != "basic":
        raise ValueError("channels can be pruned of the network resnet with basic blocks only")
    whole, low, high = _sizes(net, side), 0.0, 1.0
    best: StagedNet | None = None
    for _ in range(STEPS):
        ratio = (low + high) / 2
        candidate = _without_channels(net, side, ratio)
        if all(
            after <= (1 - share) * before
            for after, before in zip(_sizes(candidate, side), whole, strict=True)
        ):
            best, high = candidate, ratio
        else:
            low = ratio
    if best is None:
        raise ValueError(
            f"{share:.0%} of parameters and FLOPs cannot be pruned in multiples of {ROUND_TO} channels"
        )
    left = {**arguments, **_widths(best)}
    pruned = nets.build("resnet", left)
    pruned.load_state_dict(best.state_dict())
    return pruned.eval(), left


def _sizes(net: StagedNet, side: int) -> tuple[int, int]:
    """Parameters, and FLOPs of one image."""
    return parameters(net), dense_flops(count_stages(net, side, side))[-1]


def _without_channels(net: StagedNet, side: int, ratio: float) -> StagedNet:
    import torch_pruning

    candidate = copy.deepcopy(net).eval()
    kept: list[nn.Module] = [
        module.squeeze for module in candidate.modules() if isinstance(module, SqueezeExcitation)
    ]
    kept += [module for head in candidate.heads for module in head.modules() if isinstance(module, nn.Linear)]
    torch_pruning.pruner.BasePruner(
        candidate,
        torch.zeros(1, 3, side, side),
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        # Rounded to the nearest multiple here: the library rounds down, and leaves 16 of 32 for any ratio.
        pruning_ratio_dict={
            module: 1 - _left(module.out_channels, ratio) / module.out_channels
            for module in candidate.modules()
            if isinstance(module, nn.Conv2d)
        },
        ignored_layers=kept,
    ).step()
    return candidate


def _left(channels: int, ratio: float) -> int:
    """Channels that are left of ``channels`` without the share ``ratio``."""
    return min(max(round(channels * (1 - ratio) / ROUND_TO), 1) * ROUND_TO, channels)


def _widths(net: StagedNet) -> dict[str, list[int]]:
    """Channels within and behind each block, as ``resnet`` takes them."""
    blocks = [module for module in net.modules() if isinstance(module, Residual)]
    convolutions = [[m for m in block.layers.modules() if isinstance(m, nn.Conv2d)] for block in blocks]
    inner = [first.out_channels for first, _ in convolutions]
    streams: list[int] = []
    for block, (_, last) in zip(blocks, convolutions, strict=True):
        if not streams or not isinstance(block.shortcut, nn.Identity):
            streams.append(last.out_channels)
    return {"streams": streams, "inner": inner}


def prune_weights(net: StagedNet, share: float) -> StagedNet:
    """A copy whose convolution weights of smallest magnitude, over all layers, are zero.

    Raises:
        ValueError: ``share`` of the convolutions' weights is not within 0..1.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of weights to prune must be between 0 and 1, got {share}")
    pruned = copy.deepcopy(net)
    weights = [(module, "weight") for module in pruned.modules() if isinstance(module, nn.Conv2d)]
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=share)
    for module, name in weights:
        prune.remove(module, name)  # type: ignore[no-untyped-call]  # torch
    return pruned


def fine_tuning(
    manifest: Manifest,
    arguments: Mapping[str, Any],
    epochs: int,
    *,
    keep_zeros: bool,
    teacher: str | None = None,
) -> Recipe:
    """What wins back the accuracy that pruning the artifact of ``manifest`` cost: training at a low rate.

    Args:
        manifest: Of the whole network.
        arguments: That build the pruned one.
        epochs: Passes over the training rows.
        keep_zeros: Single weights were pruned.
        teacher: Recipe whose finished run teaches, as in ``recipes``.

    Raises:
        ValueError: They make no recipe.
    """
    return Recipe(
        teacher=teacher,
        teacher_weight=0.0 if teacher is None else TEACHER_WEIGHT,
        teacher_once=teacher is not None,
        task=manifest.task,
        network=manifest.network,
        arguments=arguments,
        mean=manifest.input.mean,
        std=manifest.input.std,
        start=f"{manifest.name}@{manifest.version}",
        epochs=epochs,
        learning_rate=0.02,
        muon_rate=0.02,
        warmup_epochs=0.2,
        ema_decay=0.0,
        keep_zeros=keep_zeros,
    )


def sparsity(net: StagedNet) -> float:
    """Share of the convolutions' weights that are zero."""
    weights = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / sum(weight.numel() for weight in weights)
