"""The fusion network, pinned to the digit, and what every staged network must do."""

from __future__ import annotations

import pytest
import torch

from model_store import nets
from model_store.flops import count_stages, dense_flops, direct_flops
from model_store.nets.fusion import fusion
from model_store.nets.staged import Features, Span, fold_batch_norm
from model_store.training.recipes import RECIPES
from model_store.training.start import adopt_weights

FAST = dict(RECIPES["cifar10-fusion-fast"].arguments)


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
    # Of the design's 46,592 and 22,656 behind blocks 2 and 5 the finest scale goes, which nobody reads.
    assert sizes[:6] == [35_840, 46_592 - 104 * 256, 13_440, 18_048, 22_656 - 236 * 64, 4_928]


def test_a_hundred_classes_change_only_the_last_linear_layers() -> None:
    ten, hundred = (count_stages(fusion(classes), 32, 32) for classes in (10, 100))
    assert [b.head - a.head for a, b in zip(ten, hundred, strict=True)] == [90 * 128] * 7
    assert [a.block for a in ten] == [b.block for b in hundred]


def test_large_images_use_a_stem_of_stride_four_and_four_scales() -> None:
    net = fusion(1000, scales=4, large_input=True, layers_per_block=(4, 4, 4, 4), channels=8, growth=4).eval()
    with torch.no_grad():
        features = net.blocks[0].layers[0]((torch.zeros(2, 3, 224, 224),))
        assert [x.shape[-1] for x in features] == [56, 28, 14, 7]
        assert [logits.shape for logits in net(torch.zeros(2, 3, 224, 224))] == [(2, 1000)] * 4


def test_the_network_made_for_time_has_its_flops_and_state() -> None:
    net = nets.build("fusion", FAST)
    assert direct_flops(count_stages(net, 32, 32)) == (13_587_712, 19_670_272, 27_944_192, 33_658_112)
    assert sum(parameter.numel() for parameter in net.parameters()) == 2_708_640
    features: Features = (torch.zeros(1, 3, 32, 32),)
    shapes = []
    with torch.no_grad():
        for block in net.eval().blocks[:3]:
            features = block(features)
            shapes.append([tuple(x.shape[1:]) for x in features])
    assert shapes == [
        [(160, 8, 8), (320, 4, 4)],
        [(208, 8, 8), (416, 4, 4)],
        [(140, 8, 8), (280, 4, 4)],
    ]


def test_the_network_made_for_time_takes_all_weights_of_the_whole_but_those_of_other_shapes() -> None:
    torch.manual_seed(0)
    whole, fast = fusion(), nets.build("fusion", FAST)
    adopt_weights(fast, whole)
    given = whole.state_dict()
    own = {
        name.rpartition(".")[0]
        for name, value in fast.state_dict().items()
        if name.endswith("weight") and not (name in given and torch.equal(value, given[name]))
    }
    units = {name.rpartition(".")[0].rpartition(".")[0] for name in own}
    assert units == {f"blocks.1.layers.{layer}.normal.1" for layer in (0, 1)}


def test_a_lean_stem_leaves_nothing_but_the_images_at_full_resolution() -> None:
    net, sides = nets.build("fusion", FAST).eval(), []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    with torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    assert max(sides) == 16


@pytest.mark.parametrize("arguments", [{"activation": "relu"}, {"activation": "gelu"}, FAST])
def test_running_span_by_span_is_running_the_whole(arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = nets.build("fusion", {**arguments, "channels": 8, "growth": 4}).eval()
    images, deepest = torch.randn(3, 3, 32, 32), net.stages - 1
    with torch.no_grad():
        whole = net(images)
        features, first = net.run_span(Span(0, 1), (images,))
        _, last = net.run_span(Span(2, deepest), features)
        _, alone = net.run_span(Span(0, deepest), (images,))
    torch.testing.assert_close(first, whole[1])
    torch.testing.assert_close(last, whole[deepest])
    torch.testing.assert_close(alone, whole[deepest])


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
        ("fusion", {"interval": 5}, "do not last for 16 layers"),
        ("fusion", {"finest_layers": 7}, "finest_layers"),
        ("fusion", {"finest_layers": 1, "scales": 1}, "finest_layers"),
        ("fusion", {"lean_stem": True, "large_input": True}, "lean_stem"),
    ],
)
def test_what_cannot_be_built_is_a_clear_error(
    network: str, arguments: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        nets.build(network, arguments)
