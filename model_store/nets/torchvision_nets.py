"""Torchvision's classifiers as staged networks with one exit, with the weights' names and order unchanged.

Torchvision is imported where a network is built: a server without such a model need not load it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from model_store.nets.layers import PooledLinear, Trunk
from model_store.nets.staged import COUNTED, Features, StagedNet

WITH_TRUNK = ("EfficientNet", "MNASNet", "MobileNetV2", "MobileNetV3", "ResNet", "ShuffleNetV2", "SqueezeNet")
"""Torchvision's classes whose last child is a classifier behind a global pooling."""


class PooledClassifier(nn.Module):
    """Global average pool and a classifier of several layers."""

    def __init__(self, classifier: nn.Module) -> None:
        """Keep ``classifier``: (B, C) to logits."""
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Features) -> Tensor:
        """Logits, float32 (B, num_classes)."""
        logits: Tensor = self.classifier(features[-1].mean(dim=(2, 3)))
        return logits


class MapClassifier(nn.Module):
    """A classifier of convolutions that pools at its end, as SqueezeNet's, or flattens its input."""

    def __init__(self, classifier: nn.Module) -> None:
        """Keep ``classifier``: (B, C, h, w) to (B, num_classes, 1, 1) or (B, num_classes)."""
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Features) -> Tensor:
        """Logits, float32 (B, num_classes)."""
        logits: Tensor = self.classifier(features[-1])
        return logits.flatten(1)


class GivenLogits(nn.Module):
    """The head of a classifier that is one block as a whole."""

    def forward(self, features: Features) -> Tensor:
        """Logits, float32 (B, num_classes), as they come."""
        return features[-1]


def torchvision_net(
    num_classes: int = 1000, *, architecture: str, small_input: bool = False, dropout: float | None = None
) -> StagedNet:
    """Build a classifier of torchvision, randomly initialised.

    Args:
        num_classes: Width of its last layer.
        architecture: Its name there, such as ``mobilenet_v3_small``.
        small_input: No stride in the first convolution and no pooling behind it, for 32x32 pixels.
        dropout: Instead of torchvision's; for networks that take it.

    Raises:
        ValueError: There is no such classifier, or it cannot be taken apart.
    """
    from model_store.torchvision_import import torchvision

    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise ValueError(f"torchvision has no classifier {architecture!r}; it has {', '.join(known)}")
    options = {} if dropout is None else {"dropout": dropout}
    model = torchvision.models.get_model(architecture, weights=None, num_classes=num_classes, **options)
    net = take_apart(model)
    return for_small_input(net) if small_input else net


def take_apart(model: nn.Module) -> StagedNet:
    """One block and one head from a torchvision classifier.

    Where the pooling is global and the last child classifies, that is the head, and the block is the rest.
    Other classifiers become the block as they are; its features are the logits.

    Raises:
        ValueError: It has weights outside of convolutions and linear layers, whose FLOPs nobody would count.
    """
    for name, parameter in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if parameter.ndim > 1 and not isinstance(owner, COUNTED):
            raise ValueError(
                f"{type(model).__name__} computes with {name} outside of convolutions and linear layers"
            )
    if type(model).__name__ not in WITH_TRUNK:
        return StagedNet([Trunk(model)], [GivenLogits()])
    children = OrderedDict(model.named_children())
    children.pop("avgpool", None)
    _, classifier = children.popitem()
    return StagedNet([Trunk(nn.Sequential(children))], [_head(classifier)])


def _head(classifier: nn.Module) -> nn.Module:
    layers = list(classifier.children()) if isinstance(classifier, nn.Sequential) else [classifier]
    dropout = 0.0
    if isinstance(layers[0], nn.Dropout):
        dropout, layers = layers[0].p, layers[1:]
    if len(layers) == 1 and isinstance(layers[0], nn.Linear):
        linear = layers[0]
        head = PooledLinear(linear.in_features, linear.out_features, dropout=dropout)
        head.linear = linear
        return head
    if any(isinstance(layer, nn.Conv2d) for layer in layers):
        return MapClassifier(classifier)
    return PooledClassifier(classifier)


def for_small_input(net: StagedNet) -> StagedNet:
    """Take stride and pooling out of the stem, for 32x32 pixels; a kernel of 7 becomes one of 3. In place."""
    trunk = net.blocks[0]
    name, first = next((n, m) for n, m in trunk.named_modules() if isinstance(m, nn.Conv2d))
    kernel = min(first.kernel_size[0], 3)
    stem = nn.Conv2d(
        first.in_channels, first.out_channels, kernel, padding=kernel // 2, bias=first.bias is not None
    )
    torch.nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    trunk.set_submodule(name, stem)
    pool = next((n for n, m in trunk.named_modules() if isinstance(m, nn.MaxPool2d)), None)
    if pool is not None:
        trunk.set_submodule(pool, nn.Identity())
    return net
