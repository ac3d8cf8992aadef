"""Compound scaling: depth, width and resolution of a network grow together.

Source: Tan and Le 2019, arXiv:1905.11946, section 3.3: depth ALPHA^phi, width BETA^phi,
resolution GAMMA^phi under ALPHA·BETA²·GAMMA² = 2, about, so that FLOPs grow as 2^phi.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
"""Bases for depth, width and resolution, found by the paper on EfficientNet-B0."""


@dataclass(frozen=True)
class Scale:
    """Factors on layers, channels and pixels of a side."""

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0

    def side(self, base: int) -> int:
        """``base`` pixels at this resolution."""
        return round(base * self.resolution)


def compound(phi: float, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> Scale:
    """The scale for 2^``phi`` times the FLOPs.

    Raises:
        ValueError: A base is below 1, so that more compute would make the network smaller.
    """
    if min(alpha, beta, gamma) < 1:
        raise ValueError(f"alpha, beta and gamma must be at least 1, got {alpha}, {beta} and {gamma}")
    return Scale(alpha**phi, beta**phi, gamma**phi)


def scaled_channels(channels: int, width: float, divisor: int = 8) -> int:
    """``channels`` times ``width``, to the nearest multiple of ``divisor``, at most a tenth less.

    A width of 1 leaves them as they are.

    Raises:
        ValueError: ``width`` is not positive.

    Source: the papers' TensorFlow implementation, which MobileNetV2 and EfficientNet share.
    """
    if width <= 0:
        raise ValueError(f"width must be positive, got {width}")
    if width == 1:
        return channels
    wanted = channels * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def scaled_depth(layers: int, depth: float) -> int:
    """``layers`` times ``depth``, rounded up.

    Raises:
        ValueError: ``depth`` is not positive.
    """
    if depth <= 0:
        raise ValueError(f"depth must be positive, got {depth}")
    return ceil(layers * depth)
