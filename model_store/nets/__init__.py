"""Networks by name: one file each in this folder and one line each in ``NETWORKS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model_store.nets.cascade import cascade
from model_store.nets.efficientnet import efficientnet
from model_store.nets.efficientnet_lite import efficientnet_lite0
from model_store.nets.fusion import fusion
from model_store.nets.mobilenet import mobilenet_v1, mobilenet_v2
from model_store.nets.msdnet import msdnet
from model_store.nets.multi_classifier import densenet_mc, resnet_mc
from model_store.nets.ranet import ranet
from model_store.nets.resnet import resnet
from model_store.nets.staged import StagedNet
from model_store.nets.torchvision_nets import torchvision_net
from model_store.nets.vggnet5 import vggnet5
from model_store.nets.wide_resnet import wide_resnet

NETWORKS: Mapping[str, Callable[..., StagedNet]] = {
    "cascade": lambda **arguments: cascade(build=build, **arguments),
    "densenet_mc": densenet_mc,
    "efficientnet": efficientnet,
    "efficientnet_lite0": efficientnet_lite0,
    "fusion": fusion,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "msdnet": msdnet,
    "ranet": ranet,
    "resnet": resnet,
    "resnet_mc": resnet_mc,
    "torchvision": torchvision_net,
    "vggnet5": vggnet5,
    "wide_resnet": wide_resnet,
}


def build(network: str, arguments: Mapping[str, Any]) -> StagedNet:
    """Build the network called ``network`` with its keyword ``arguments``, randomly initialised.

    Raises:
        ValueError: No such network, or arguments it does not take.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; known: {', '.join(sorted(NETWORKS))}")
    try:
        return NETWORKS[network](**arguments)
    except TypeError as error:
        raise ValueError(f"network {network!r} does not take these arguments: {error}") from error
