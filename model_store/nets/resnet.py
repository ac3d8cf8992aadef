"""Residual networks with one exit: ResNet-18 and its kin, with squeeze-and-excitation, scaled, or pruned.

Torchvision has these networks, but not with a module behind each block's last convolution, nor with channels
that a pruning chose.

Source: He et al. 2015, arXiv:1512.03385; Hu et al. 2017, arXiv:1709.01507 (squeeze-and-excitation), as
"SE-Pruned ResNet-18" (Farisi) puts it into ResNet-18: behind the second convolution of a block, before the
addition, section III.A.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from model_store.nets.layers import ConvUnit, PooledLinear, Trunk
from model_store.nets.scaling import scaled_channels, scaled_depth
from model_store.nets.staged import StagedNet

Kind = Literal["basic", "bottleneck"]

STREAMS = (64, 128, 256, 512)
"""Channels of the four groups before a bottleneck's expansion."""

EXPANSION = 4
"""Of a bottleneck's last convolution."""

REDUCTION = 16
"""Of squeeze-and-excitation: the hidden layer has one sixteenth of the channels."""


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what a two-layer network makes of all channels' means; (B, C, H, W) as it is."""

    def __init__(self, channels: int, hidden: int) -> None:
        """Build for ``channels`` with ``hidden`` units between."""
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels."""
        weights: Tensor = self.excite(self.squeeze(x.mean(dim=(2, 3))).relu()).sigmoid()
        return x * weights[:, :, None, None]


class Residual(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1, plus the input; (B, C_in, H, W) to (B, C_out, H/s, W/s)."""

    def __init__(
        self, channels_in: int, channels_mid: int, channels_out: int, stride: int, kind: Kind, se_hidden: int
    ) -> None:
        """Build the block; ``se_hidden`` 0 leaves squeeze-and-excitation out."""
        super().__init__()
        if kind == "basic":
            first = [ConvUnit(channels_in, channels_mid, 3, activation="relu", stride=stride)]
        else:
            first = [
                ConvUnit(channels_in, channels_mid, 1, activation="relu"),
                ConvUnit(channels_mid, channels_mid, 3, activation="relu", stride=stride),
            ]
        kernel = 3 if kind == "basic" else 1
        self.layers = nn.Sequential(
            *first,
            nn.Conv2d(channels_mid, channels_out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(channels_out),
            *([SqueezeExcitation(channels_out, se_hidden)] if se_hidden else []),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Add and rectify."""
        y: Tensor = self.layers(x) + self.shortcut(x)
        return y.relu()


def resnet(
    num_classes: int = 1000,
    *,
    blocks: Sequence[int] = (2, 2, 2, 2),
    kind: Kind = "basic",
    squeeze_excitation: bool = False,
    depth: float = 1.0,
    width: float = 1.0,
    streams: Sequence[int] | None = None,
    inner: Sequence[int] | None = None,
    small_input: bool = False,
) -> StagedNet:
    """Build a residual network of four groups of blocks.

    Args:
        num_classes: Width of the linear layer.
        blocks: Blocks of each group: (2, 2, 2, 2) and ``basic`` for ResNet-18, (3, 4, 6, 3) and
            ``bottleneck`` for ResNet-50.
        kind: Two 3x3 convolutions a block, or 1x1, 3x3 and 1x1 to four times the channels.
        squeeze_excitation: Put the module into every block.
        depth: Factor on ``blocks``, rounded up.
        width: Factor on all channels, rounded to multiples of 8.
        streams: Channels of each group's output, instead of those of ``kind`` and ``width``: a pruning's.
        inner: Channels within each block, in order, likewise.
        small_input: A 3x3 stem without stride and pooling, for 32x32 pixels.

    Returns:
        The network; ResNet-18 has 11,689,512 parameters and 1.81 GFLOPs at 224x224.

    Raises:
        ValueError: A size is out of range, or a list has the wrong length.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    repeats = [scaled_depth(number, depth) for number in blocks]
    bases = [scaled_channels(stream, width) for stream in STREAMS]
    if streams is None:
        streams = [base * (1 if kind == "basic" else EXPANSION) for base in bases]
    if inner is None:
        inner = [base for base, number in zip(bases, repeats, strict=True) for _ in range(number)]
    if len(streams) != len(repeats) or len(inner) != sum(repeats):
        raise ValueError(f"need {len(repeats)} streams and {sum(repeats)} inner widths")
    if min([num_classes, *repeats, *streams, *inner]) < 1:
        raise ValueError("num_classes and all numbers of blocks and channels must be at least 1")
    stem = streams[0] if kind == "basic" else bases[0]
    layers: list[nn.Module] = [_stem(stem, small_input)]
    channels, middles = stem, iter(inner)
    hidden = [base * (1 if kind == "basic" else EXPANSION) // REDUCTION for base in bases]
    for group, (number, stream) in enumerate(zip(repeats, streams, strict=True)):
        for position in range(number):
            stride = 2 if group > 0 and position == 0 else 1
            se_hidden = max(hidden[group], 1) if squeeze_excitation else 0
            layers.append(Residual(channels, next(middles), stream, stride, kind, se_hidden))
            channels = stream
    return StagedNet([Trunk(nn.Sequential(*layers))], [PooledLinear(channels, num_classes)])


def _stem(channels: int, small_input: bool) -> nn.Module:
    if small_input:
        return ConvUnit(3, channels, 3, activation="relu")
    unit = ConvUnit(3, channels, 7, activation="relu", stride=2)
    return nn.Sequential(unit, nn.MaxPool2d(3, stride=2, padding=1))
