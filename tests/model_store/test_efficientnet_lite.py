"""EfficientNet-Lite0: the published size, the published weights, any image size."""

from __future__ import annotations

import pytest
import torch

from model_store import nets
from model_store.flops import count_stages


def test_size_and_cost_are_the_published_ones() -> None:
    net = nets.build("efficientnet_lite0", {"num_classes": 1000, "side": 224})
    assert sum(p.numel() for p in net.parameters()) == 4_652_008  # the tensors of the published weights
    (stage,) = count_stages(net, 32, 32)
    assert stage.block + stage.head == pytest.approx(407e6, rel=0.06)  # the blog counts 407 M


def test_images_are_enlarged_and_one_exit_answers() -> None:
    net = nets.build("efficientnet_lite0", {"num_classes": 7, "side": 64}).eval()
    features, logits = net.run_stage(0, (torch.zeros(2, 3, 32, 32),))
    assert net.stages == 1 and logits.shape == (2, 7) and features[0].shape == (2, 1280, 2, 2)


@pytest.mark.parametrize("arguments", [{"side": 100}, {"side": 0}, {"num_classes": 0}])
def test_sizes_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="need classes and a side"):
        nets.build("efficientnet_lite0", arguments)
