"""Wide residual networks: sizes of the paper, one exit."""

from __future__ import annotations

import pytest
import torch

from model_store import nets
from model_store.flops import count_stages


@pytest.mark.parametrize(
    ("depth", "width", "parameters"),
    [(28, 10, 36.5e6), (16, 8, 11.0e6), (40, 2, 2.2e6)],  # Zagoruyko and Komodakis 2016, Tables 2 and 3
)
def test_parameters_are_those_of_the_paper(depth: int, width: int, parameters: float) -> None:
    with torch.device("meta"):
        net = nets.build("wide_resnet", {"depth": depth, "width": width})
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=0.02)


def test_a_teacher_is_a_staged_network_with_one_exit() -> None:
    net = nets.build("wide_resnet", {"num_classes": 7, "depth": 10, "width": 1}).eval()
    features, logits = net.run_stage(0, (torch.zeros(2, 3, 32, 32),))
    assert net.stages == 1 and logits.shape == (2, 7) and features[0].shape == (2, 64, 8, 8)
    (stage,) = count_stages(net, 32, 32)
    assert stage.head == 64 * 7


@pytest.mark.parametrize("depth", [4, 11, 27])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="depth must be"):
        nets.build("wide_resnet", {"depth": depth})
