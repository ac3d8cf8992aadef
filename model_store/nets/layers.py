"""Building blocks that several networks share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from model_store.nets.staged import Features

Activation = Literal["relu", "relu6", "gelu"]


def activation_layer(name: Activation) -> nn.Module:
    """Make the activation called ``name``."""
    if name == "gelu":
        return nn.GELU()
    return nn.ReLU6(inplace=True) if name == "relu6" else nn.ReLU(inplace=True)


class ConvUnit(nn.Sequential):
    """Convolution without bias, BatchNorm, activation ("cba"): float32 (B, C, H, W) in and out.

    The padding keeps the size at stride 1 for odd kernels; stride 2 halves it, rounded up.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        activation: Activation,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        """Build the unit; ``groups == channels_in`` makes it depthwise."""
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(channels_out),
            activation_layer(activation),
        )


class Bottleneck(nn.Sequential):
    """A 1x1 unit to ``channels_mid``, then a 3x3 unit to ``channels_out``; stride 2 halves the size."""

    def __init__(
        self,
        channels_in: int,
        channels_mid: int,
        channels_out: int,
        *,
        activation: Activation,
        stride: int = 1,
    ) -> None:
        """Build the two units."""
        super().__init__(
            ConvUnit(channels_in, channels_mid, 1, activation=activation),
            ConvUnit(channels_mid, channels_out, 3, activation=activation, stride=stride),
        )


class PooledLinear(nn.Module):
    """Global average pool and linear layer: the head that class-activation maps can be read from."""

    def __init__(
        self, channels: int, num_classes: int, *, convs: nn.Module | None = None, dropout: float = 0.0
    ) -> None:
        """Build for ``channels`` of what is pooled: the last features, or what ``convs`` make of them."""
        super().__init__()
        self.convs = convs if convs is not None else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, num_classes)

    def maps(self, features: Features) -> Tensor:
        """What is pooled, float32 (B, C, h, w)."""
        maps: Tensor = self.convs(features[-1])
        return maps

    def forward(self, features: Features) -> Tensor:
        """Logits, float32 (B, num_classes)."""
        logits: Tensor = self.linear(self.dropout(self.maps(features).mean(dim=(2, 3))))
        return logits


class Trunk(nn.Module):
    """Modules in sequence as the one block of a network with one exit."""

    def __init__(self, layers: nn.Module) -> None:
        """Keep ``layers``."""
        super().__init__()
        self.layers = layers

    def forward(self, features: Features) -> Features:
        """Images, float32 (B, 3, H, W), to maps (B, C, h, w)."""
        return (self.layers(features[0]),)
