"""Class-activation maps: where in an image the evidence for a class is.

Source: Zhou et al. 2016, arXiv:1512.04150, as in Tan and Le 2019, Figure 7. Behind global average pooling
a class's logit is the mean over all positions of the maps, weighted by the class's row of the linear layer;
the class-activation map is that weighted sum before the mean is taken.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model_store.nets.cascade import CarriedHead
from model_store.nets.layers import PooledLinear
from model_store.nets.staged import Features, StagedNet
from model_store.preprocess import InputSpec

MIN_SIDE = 224
"""Pixels that the shorter side of an overlay has at least: 32 of them would be a stamp."""


class NoActivationMap(ValueError):
    """The exit's head is not a linear layer behind global average pooling."""


def activation_map(
    net: StagedNet, spec: InputSpec, image: NDArray[np.uint8], k: int, index: int
) -> NDArray[np.float32]:
    """The map of class ``index`` at exit ``k``.

    Args:
        net: In evaluation mode, on the CPU.
        spec: Its normalisation.
        image: uint8 (3, H, W).
        k: Exit, 0-based.
        index: Class.

    Returns:
        float32 (h, w), h and w those of the maps that the head pools; units of the logit.

    Raises:
        NoActivationMap: Maps cannot be read from that head.
    """
    head = net.heads[k]
    inner = head.head if isinstance(head, CarriedHead) else head
    if not isinstance(inner, PooledLinear):
        raise NoActivationMap(f"the head of exit {k + 1} is not a linear layer behind global average pooling")
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    features: Features = (((torch.from_numpy(image).float() / 255 - mean) / std)[None],)
    with torch.inference_mode():
        for block in net.blocks[: k + 1]:
            features = block(features)
        maps = inner.maps(features[1:] if isinstance(head, CarriedHead) else features)
        heat: NDArray[np.float32] = torch.einsum("chw,c->hw", maps[0], inner.linear.weight[index]).numpy()
    return heat


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> bytes:
    """A PNG of ``image`` under its map: blue where the least evidence is, red where the most.

    Args:
        image: uint8 (3, H, W).
        heat: float32 (h, w), of any range.
    """
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    times = -(-MIN_SIDE // min(picture.size))
    size = (picture.width * times, picture.height * times)
    low, high = float(heat.min()), float(heat.max())
    scaled = (heat - low) * (255 / (high - low) if high > low else 0.0)
    shades = Image.fromarray(scaled.round().astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    colours = ImageOps.colorize(shades, black="blue", mid="yellow", white="red", midpoint=160)
    blended = Image.blend(picture.resize(size, Image.Resampling.BICUBIC), colours, 0.45)
    file = BytesIO()
    blended.save(file, "PNG")
    return file.getvalue()
