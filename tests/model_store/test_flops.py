"""FLOPs are what PyTorch's own counter says, which counts two per multiply-add."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model_store import nets
from model_store.flops import count_stages, dense_flops

NEEDED = {
    "cascade": {
        "members": [
            {
                "network": network,
                "arguments": {},
                "height": side,
                "width": side,
                "mean": [0.5] * 3,
                "std": [1.0] * 3,
            }
            for network, side in (("fusion", 32), ("mobilenet_v1", 24))
        ]
    },
    "torchvision": {"architecture": "shufflenet_v2_x1_0"},
}
"""Arguments of networks that have no defaults."""


@pytest.mark.parametrize("network", sorted(nets.NETWORKS))
def test_every_network_costs_what_pytorch_counts(network: str) -> None:
    net = nets.build(network, NEEDED.get(network, {})).to("meta").eval()  # nothing is computed
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 32, 32, device="meta"))
    assert dense_flops(count_stages(net, 32, 32))[-1] * 2 == counter.get_total_flops()


def test_counting_changes_nothing_of_the_network() -> None:
    net = nets.build("fusion", {"channels": 8, "growth": 4, "layers_per_block": [1, 1]}).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    count_stages(net, 32, 32)
    assert net.training and not any(module._forward_hooks for module in net.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
