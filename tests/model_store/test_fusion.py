"""The fusion network, pinned to the digit, and what every staged network must do."""

from __future__ import annotations

import pytest
import torch

from model_store import nets
from model_store.flops import count_stages, dense_flops, direct_flops
from model_store.nets.fusion import fusion
from model_store.nets.staged import Span, fold_batch_norm


def test_the_flops_of_every_exit_are_those_of_the_design_to_the_digit() -> None:
    stages = count_stages(fusion(), 32, 32)
    assert dense_flops(stages) == (
        *(15_258_880, 23_319_040, 33_576_704, 40_647_680),
        *(49_045_760, 57_597_952, 64_220_416),
    )
    direct = [round(flops / 1e6, 2) for flops in direct_flops(stages)]
    assert direct == [15.26, 21.78, 30.05, 35.77, 42.36, 48.67, 53.81]


def test_it_has_the_number_of_parameters_of_the_design() -> None:
    assert sum(parameter.numel() for parameter in fusion().parameters()) == 5_051_958


def test_the_state_carried_between_blocks_has_the_sizes_of_the_design() -> None:
    net, features, sizes = fusion().eval(), (torch.zeros(1, 3, 32, 32),), []
    with torch.no_grad():
        for block in net.blocks:
            features = block(features)
            sizes.append(sum(x.numel() for x in features))
    assert sizes[:6] == [35_840, 46_592, 13_440, 18_048, 22_656, 4_928]


def test_a_hundred_classes_change_only_the_last_linear_layers() -> None:
    ten, hundred = (count_stages(fusion(classes), 32, 32) for classes in (10, 100))
    assert [b.head - a.head for a, b in zip(ten, hundred, strict=True)] == [90 * 128] * 7
    assert [a.block for a in ten] == [b.block for b in hundred]


def test_large_images_use_a_stem_of_stride_four_and_four_scales() -> None:
    net = fusion(1000, scales=4, large_input=True, layers_per_block=(4, 4, 4, 4), channels=8, growth=4).eval()
    with torch.no_grad():
        features = net.blocks[0]((torch.zeros(2, 3, 224, 224),))
        assert [x.shape[-1] for x in features] == [56, 28, 14, 7]
        assert [logits.shape for logits in net(torch.zeros(2, 3, 224, 224))] == [(2, 1000)] * 4


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_running_span_by_span_is_running_the_whole(activation: str) -> None:
    torch.manual_seed(0)
    net = nets.build("fusion", {"activation": activation, "channels": 8, "growth": 4}).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        whole = net(images)
        features, first = net.run_span(Span(0, 2), (images,))
        _, last = net.run_span(Span(3, 6), features)
        _, alone = net.run_span(Span(0, 6), (images,))
    torch.testing.assert_close(first, whole[2])
    torch.testing.assert_close(last, whole[6])
    torch.testing.assert_close(alone, whole[6])


def test_folding_batch_norm_changes_no_answer_and_leaves_no_batch_norm() -> None:
    torch.manual_seed(0)
    net = nets.build("fusion", {"channels": 8, "growth": 4})
    net(torch.randn(16, 3, 32, 32))
    net.eval()
    folded = fold_batch_norm(net)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(folded(images), net(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_span_outside_the_network_is_refused() -> None:
    net = nets.build("fusion", {"channels": 8, "growth": 4})
    for span in (Span(-1, 0), Span(2, 1), Span(0, 7)):
        with pytest.raises(IndexError, match="not within the 7 stages"):
            net.run_span(span, (torch.zeros(1, 3, 32, 32),))


@pytest.mark.parametrize(
    ("network", "arguments", "reason"),
    [
        ("nonesuch", {}, "unknown network"),
        ("fusion", {"depth": 3}, "does not take"),
        ("fusion", {"growth": 3}, "even"),
        ("fusion", {"scales": 9}, "scales"),
        ("fusion", {"layers_per_block": []}, "at least 1"),
    ],
)
def test_what_cannot_be_built_is_a_clear_error(
    network: str, arguments: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        nets.build(network, arguments)
