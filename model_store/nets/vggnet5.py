"""VGGNet5: the plain network of five weight layers that seed 003 compares light networks with.

Source: "The Methodologies Behind Computationally Efficient Convolutional Neural Networks" (Quah), Table I. It
gives 3,852,740 parameters and 20.3 MFLOPs an image of 28x28 pixels, but no layers. Of the plain networks with
two to four 3x3 convolutions and widths in powers of two this one comes nearest: 3,862,961 and 19.6 M.
"""

from __future__ import annotations

from torch import nn

from model_store.nets.layers import Trunk
from model_store.nets.staged import StagedNet
from model_store.nets.torchvision_nets import MapClassifier

CONVOLUTIONS, HIDDEN = (64, 128), (512, 1024)
"""Channels of the convolutions, each before a pooling of 2, and units of the hidden linear layers."""


def vggnet5(num_classes: int = 10, *, side: int = 32, dropout: float = 0.0) -> StagedNet:
    """Build VGGNet5 for images of ``side`` x ``side`` pixels.

    Args:
        num_classes: Width of the last layer.
        side: Pixels, a multiple of 4; the first linear layer reads every position.
        dropout: Before each hidden linear layer.

    Raises:
        ValueError: A size is out of range.
    """
    if num_classes < 1 or side < 4 or side % 4:
        raise ValueError(f"need classes and a side of 4·n pixels, got {num_classes} and {side}")
    layers: list[nn.Module] = []
    channels = 3
    for width in CONVOLUTIONS:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        channels = width
    units = channels * (side // 4) ** 2
    linears: list[nn.Module] = [nn.Flatten()]
    for width in HIDDEN:
        linears += [nn.Dropout(dropout), nn.Linear(units, width), nn.ReLU(inplace=True)]
        units = width
    classifier = nn.Sequential(*linears, nn.Linear(units, num_classes))
    return StagedNet([Trunk(nn.Sequential(*layers))], [MapClassifier(classifier)])
