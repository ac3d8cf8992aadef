"""MSDNet: a dense network over several scales at once, with a classifier on the coarsest at every exit.

Source: Huang, Chen, Li, Wu, van der Maaten, Weinberger 2018, "Multi-Scale Dense Networks for Resource
Efficient Image Classification", ICLR (arXiv:1703.09844), section 4. What the paper leaves open (widths of the
bottlenecks, where scales are dropped) follows its PyTorch implementation. That one's own counter adds
activations, pooling and linear biases to the multiply-adds: 15.13 and 75.86 M at the first and last exit of
the defaults, where convolutions and linear layers alone are 14.96 and 75.41 M.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from model_store.nets.layers import Activation, Bottleneck, ConvUnit, PooledLinear
from model_store.nets.multiscale import CHANNEL_FACTORS, multiscale
from model_store.nets.staged import Features, StagedNet

StepMode = Literal["even", "lin_grow"]


class FirstLayer(nn.Module):
    """Images (B, 3, H, W) to S scales (B, n·f_s, H/r, W/r): r = 1, 2, 4, or 4, 8, 16, 32 for large inputs."""

    def __init__(self, channels: int, scales: int, activation: Activation, large_input: bool) -> None:
        """Build for ``channels`` base channels n."""
        super().__init__()
        widths = [channels * factor for factor in CHANNEL_FACTORS[:scales]]
        entry: nn.Module = ConvUnit(3, channels, 3, activation=activation)
        if large_input:
            entry = nn.Sequential(
                ConvUnit(3, channels, 7, activation=activation, stride=2),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        self.units = nn.ModuleList([entry])
        for wide, wider in pairwise(widths):
            self.units.append(ConvUnit(wide, wider, 3, activation=activation, stride=2))

    def forward(self, features: Features) -> Features:
        """Compute all scales, finest first."""
        scales = [self.units[0](features[0])]
        for unit in list(self.units)[1:]:
            scales.append(unit(scales[-1]))
        return tuple(scales)


class DenseScale(nn.Module):
    """One scale of a dense layer: its c channels, then those that ``down`` and ``normal`` add."""

    def __init__(self, channels: int, growth: int, factors: Sequence[int], activation: Activation) -> None:
        """Build for base channels n and ``factors`` (f_s,), or (f_(s-1), f_s) where a finer scale is read.

        Both paths are bottlenecks whose inner width is that of their output times their input's factor, but
        at most that of their input.
        """
        super().__init__()
        c_new = growth * factors[-1] // len(factors)
        self.paths = nn.ModuleList()
        for factor, stride in zip(factors, (2, 1)[-len(factors) :], strict=True):  # down, normal
            c_in = channels * factor
            c_mid = min(c_in, factor * c_new)
            self.paths.append(Bottleneck(c_in, c_mid, c_new, activation=activation, stride=stride))

    def forward(self, inputs: Features) -> Tensor:
        """Grow the last of ``inputs``: x, or the finer scale and x."""
        new = [path(x) for path, x in zip(self.paths, inputs, strict=True)]
        return torch.cat([inputs[-1], *new], dim=1)


class DenseLayer(nn.Module):
    """One layer over the live scales: base channels n in, n + growth out.

    A scale with a finer one before it gets half the growth by ``down``, which reads that scale's *input* of
    this layer, and half by ``normal``; scale 1 has ``normal`` alone. A layer that drops the finest live scale
    reads it a last time.
    """

    def __init__(
        self, channels: int, growth: int, factors: Sequence[int], outputs: int, activation: Activation
    ) -> None:
        """Build for incoming scales with channel ``factors``; the coarsest ``outputs`` of them go on."""
        super().__init__()
        self.scales = nn.ModuleList(
            DenseScale(channels, growth, factors[max(scale - 1, 0) : scale + 1], activation)
            for scale in range(len(factors) - outputs, len(factors))
        )

    def forward(self, features: Features) -> Features:
        """Grow the coarsest ``len(self.scales)`` scales of ``features``."""
        first = len(features) - len(self.scales)
        return tuple(
            grow(features[max(scale - 1, 0) : scale + 1]) for scale, grow in enumerate(self.scales, first)
        )


class Head(PooledLinear):
    """Classifier on the coarsest scale: two 3x3 units of stride 2, average over what is left, linear.

    32 pixels leave 2x2 there, and the average is the 2x2 pooling of the paper.
    """

    def __init__(self, channels: int, width: int, num_classes: int, activation: Activation) -> None:
        """Build for ``channels`` at the coarsest scale and units of ``width`` channels."""
        convs = nn.Sequential(
            ConvUnit(channels, width, 3, activation=activation, stride=2),
            ConvUnit(width, width, 3, activation=activation, stride=2),
        )
        super().__init__(width, num_classes, convs=convs)


def layers_per_block(exits: int, base: int, step: int, step_mode: StepMode) -> tuple[int, ...]:
    """Lay out the blocks: ``base`` layers, then ``step`` each or, if ``lin_grow``, step·i + 1 (i = 1, 2, …).

    Raises:
        ValueError: A number is below 1, or there is no such mode.
    """
    if min(exits, base, step) < 1:
        raise ValueError(f"exits, base and step must be at least 1, got {exits}, {base} and {step}")
    if step_mode not in get_args(StepMode):
        raise ValueError(f"step_mode must be one of {', '.join(get_args(StepMode))}, got {step_mode!r}")
    return base, *(step if step_mode == "even" else step * i + 1 for i in range(1, exits))


def msdnet(
    num_classes: int = 10,
    *,
    exits: int = 7,
    base: int = 4,
    step: int = 2,
    step_mode: StepMode = "even",
    channels: int = 16,
    growth: int = 6,
    scales: int = 3,
    activation: Activation = "relu",
    large_input: bool = False,
) -> StagedNet:
    """Build MSDNet with reduction 0.5 and bottleneck factors equal to the channel factors.

    Args:
        num_classes: Width of each exit's linear layer.
        exits: Number of stages.
        base: Layers of the first stage.
        step: Layers of every later stage, or what the i-th grows by: see ``step_mode``.
        step_mode: ``even`` (anytime) or ``lin_grow``: step·i + 1 layers (mean budgets; base 1, step 1).
        channels: Base channels n; scale s has n·f_s.
        growth: New base channels per layer.
        scales: Scales S at the start; one is dropped every ⌈L/S⌉ layers.
        activation: The paper's is ``relu``.
        large_input: ImageNet's first layer and heads (4 scales, 32 channels, growth 16 there).

    Returns:
        The network; defaults are the CIFAR anytime variant: 2,986,690 parameters, 14.96 to 75.41 M FLOPs for
        32x32 pixels and 10 classes. The mean-budget variants of 5, 6 and 7 exits start at 6.78 M and end at
        58.03, 88.49 and 136.48 M.

    Raises:
        ValueError: A size is out of range.

    Source: Huang et al. 2018, section 4 and appendix A.
    """
    if not 1 <= scales <= len(CHANNEL_FACTORS):
        raise ValueError(f"scales must be 1..{len(CHANNEL_FACTORS)}, got {scales}")
    if min(num_classes, channels, growth) < 1:
        raise ValueError("num_classes, channels and growth must be at least 1")
    return multiscale(
        layers_per_block(exits, base, step, step_mode),
        scales,
        channels,
        growth,
        activation,
        stem=FirstLayer(channels, scales, activation, large_input),
        layer=lambda base, factors, live, _: DenseLayer(base, growth, factors, live, activation),
        head=lambda coarsest: Head(coarsest, coarsest if large_input else 128, num_classes, activation),
        reads_dropped=True,
    )
