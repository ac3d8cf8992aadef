"""The zoo: counts as in the papers, torchvision's networks taken apart unharmed, compound scaling."""

from __future__ import annotations

import pytest
import torch

from model_store import nets
from model_store.nets.scaling import Scale, compound, scaled_channels, scaled_depth
from model_store.nets.torchvision_nets import take_apart
from model_store.torchvision_import import torchvision
from model_store.zoo import Counted, count_zoo, zoo

TOLERANCE = 0.02
ARCHITECTURES = (
    "efficientnet_b0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "shufflenet_v2_x1_0",
    "mnasnet0_5",
    "squeezenet1_0",
    "squeezenet1_1",
    "resnet18",
    "resnet50",
)


@pytest.fixture(scope="module")
def counted() -> dict[str, Counted]:
    return {entry.name: entry for entry in count_zoo()}


def test_counts_are_within_two_percent_of_the_papers_or_say_why(counted: dict[str, Counted]) -> None:
    unexplained, needless = [], []
    for entry in counted.values():
        if entry.paper is None:
            continue
        pairs = ((entry.parameters, entry.paper.parameters), (entry.flops["native"], entry.paper.flops))
        off = [ours for ours, theirs in pairs if theirs is not None and abs(ours / theirs - 1) > TOLERANCE]
        if off and entry.paper.why is None:
            unexplained.append(entry.name)
        if not off and entry.paper.why is not None:
            needless.append(entry.name)
    assert not unexplained and not needless


def test_the_zoo_has_every_family_of_the_papers(counted: dict[str, Counted]) -> None:
    exits = {name: entry.exits for name, entry in counted.items()}
    assert {name for name, count in exits.items() if count > 1} == {
        "fusion-cifar",
        "msdnet-cifar",
        *(f"msdnet-cifar-budgeted-{count}" for count in (5, 6, 7)),
        "ranet-cifar",
        "resnet-mc-cifar",
        "densenet-mc-cifar",
    }
    assert {f"efficientnet_b{number}" for number in range(8)} < set(exits)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_network_taken_apart_says_what_torchvisions_says(architecture: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(architecture, weights=None, num_classes=7).eval()
    net = take_apart(model)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images)[0], model(images))
    assert [tuple(a.shape) for a in net.state_dict().values()] == [
        tuple(b.shape) for b in model.state_dict().values()
    ]


def test_a_classifier_that_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="VisionTransformer"):
        nets.build("torchvision", {"architecture": "vit_b_16"})
    with pytest.raises(ValueError, match="no classifier 'resnet1'"):
        nets.build("torchvision", {"architecture": "resnet1"})


SMALL = [name for name, entry in zoo().items() if entry.side == 32]


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_learns_a_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    net = zoo()[name].build(32).train()
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def loss() -> torch.Tensor:
        return torch.stack(
            [torch.nn.functional.cross_entropy(logits, labels) for logits in net(images)]
        ).sum()

    before = loss().item()
    for _ in range(6):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert loss().item() < before


def test_stages_in_turn_give_what_the_whole_network_gives() -> None:
    for name in ("ranet-cifar", "resnet-mc-cifar", "densenet-mc-cifar"):
        torch.manual_seed(1)
        net = zoo()[name].build(32).eval()
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            features: tuple[torch.Tensor, ...] = (images,)
            for k, expected in enumerate(net(images)):
                features, logits = net.run_stage(k, features)
                torch.testing.assert_close(logits, expected)


def test_compound_scaling_doubles_the_flops_with_each_step() -> None:
    scale = compound(1)
    assert scale == Scale(1.2, 1.1, 1.15)
    assert 1.9 < scale.depth * scale.width**2 * scale.resolution**2 < 2.1
    assert compound(0) == Scale() and compound(2).side(224) == 296
    with pytest.raises(ValueError, match="at least 1"):
        compound(1, alpha=0.5)


def test_channels_are_multiples_of_eight_and_depth_is_rounded_up() -> None:
    assert [scaled_channels(32, width) for width in (1, 1.1, 1.4, 2)] == [32, 32, 48, 64]
    assert scaled_channels(11, 1.05) == 16  # 8 would be more than a tenth less
    assert [scaled_depth(2, depth) for depth in (1, 1.1, 1.5, 2)] == [2, 3, 3, 4]
    with pytest.raises(ValueError, match="width must be positive"):
        scaled_channels(8, 0)
    with pytest.raises(ValueError, match="depth must be positive"):
        scaled_depth(8, -1)


def test_pruned_widths_make_a_smaller_resnet() -> None:
    arguments = {"num_classes": 10, "small_input": True, "squeeze_excitation": True}
    whole = nets.build("resnet", arguments)
    pruned = nets.build("resnet", {**arguments, "streams": [48, 96, 200, 400], "inner": [40] * 8})
    assert pruned(torch.zeros(2, 3, 32, 32))[0].shape == (2, 10)
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in whole.parameters()) / 2
    with pytest.raises(ValueError, match="need 4 streams and 8 inner"):
        nets.build("resnet", {**arguments, "inner": [40] * 7})
