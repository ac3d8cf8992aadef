"""Class-activation maps: their mean is the logit; the overlay is the image under it."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import SPEC, SmallStore, random_images
from PIL import Image

from model_store import nets
from model_store.explain import NoActivationMap, activation_map, overlay
from model_store.nets.layers import PooledLinear
from model_store.nets.staged import StagedNet


def logit(net: StagedNet, image: np.ndarray, k: int, index: int) -> float:
    mean, std = (torch.tensor(values)[:, None, None] for values in (SPEC.mean, SPEC.std))
    with torch.no_grad():
        logits = net(((torch.from_numpy(image) / 255 - mean) / std)[None])[k]
    return float(logits[0, index])


@pytest.mark.parametrize("k", [0, 3])
def test_the_mean_of_a_map_is_the_logit_without_its_bias(small_store: SmallStore, k: int) -> None:
    net, image = small_store.artifact.net, random_images(1)[0]
    heat = activation_map(net, SPEC, image, k, 7)
    head = net.heads[k]
    assert isinstance(head, PooledLinear)
    assert heat.mean() + head.linear.bias[7].item() == pytest.approx(logit(net, image, k, 7), rel=1e-4)


def test_a_cascade_is_explained_by_the_member_that_answered() -> None:
    torch.manual_seed(0)
    member = {"height": 32, "width": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    small = {"network": "fusion", "arguments": {"channels": 8, "growth": 4, "layers_per_block": [2, 1]}}
    net = nets.build("cascade", {"members": [small | member, small | member]}).eval()
    raw = SPEC.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    image = random_images(1)[0]
    heat = activation_map(net, raw, image, 2, 1)
    with torch.no_grad():
        logits = net(torch.from_numpy(image)[None] / 255)[2]
    bias = net.heads[2].head.linear.bias[1]  # type: ignore[union-attr, index]
    assert heat.mean() + bias.item() == pytest.approx(logits[0, 1].item(), rel=1e-4)


def test_a_head_of_several_layers_has_no_map() -> None:
    net = nets.build("vggnet5", {}).eval()
    with pytest.raises(NoActivationMap, match="exit 1"):
        activation_map(net, SPEC, random_images(1)[0], 0, 0)


def test_an_overlay_is_red_where_the_evidence_is() -> None:
    heat = np.zeros((2, 2), np.float32)
    heat[0, 1] = 5.0
    picture = Image.open(BytesIO(overlay(np.full((3, 32, 32), 128, np.uint8), heat)))
    assert picture.format == "PNG" and picture.size == (224, 224)
    red, _, blue = picture.getpixel((220, 3))  # type: ignore[misc]
    assert red > 150 > blue
    red, _, blue = picture.getpixel((3, 220))  # type: ignore[misc]
    assert blue > 150 > red


def test_a_flat_map_is_drawn_too() -> None:
    assert overlay(np.zeros((3, 300, 400), np.uint8), np.ones((3, 3), np.float32)).startswith(b"\x89PNG")
