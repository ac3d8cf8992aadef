"""MSDNet, pinned to the digit and to what its authors published."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
import torch
from torch import Tensor, nn

from model_store import nets
from model_store.flops import count_stages, dense_flops
from model_store.nets.msdnet import DenseScale, layers_per_block, msdnet
from model_store.nets.staged import Features, Span, StagedNet, fold_batch_norm

SMALL: dict[str, object] = {"channels": 4, "growth": 2}


def counted_as_the_authors_do(net: StagedNet, pixels: int) -> list[float]:
    """M FLOPs of each exit with activations, pooling and linear biases, as MSDNet's own counter has them."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            counts.append(output.numel() * module.weight[0].numel())
        elif isinstance(module, nn.ReLU):
            counts.append(output.numel())
        elif isinstance(module, nn.MaxPool2d):
            counts.append(output.numel() * 9)
        elif isinstance(module, nn.Linear):
            counts.append(module.weight.numel() + module.out_features + 4 * module.in_features)  # 2x2 pooling

    net = net.eval().to("meta")
    for module in net.modules():
        module.register_forward_hook(count)
    totals: list[float] = []
    features: Features = (torch.empty(1, 3, pixels, pixels, device="meta"),)
    for block, head in zip(net.blocks, net.heads, strict=True):
        features = block(features)
        head(features)
        totals.append(sum(counts) / 1e6)
    return totals


def test_the_flops_of_every_exit_are_pinned_and_the_last_is_the_papers() -> None:
    assert dense_flops(count_stages(msdnet(), 32, 32)) == (
        *(14_955_776, 25_235_968, 36_745_984, 45_926_400),
        *(56_876_288, 66_460_160, 75_407_104),
    )


def test_it_has_the_number_of_parameters_of_the_paper() -> None:
    assert sum(parameter.numel() for parameter in msdnet().parameters()) == 2_986_690


def test_counted_as_the_authors_count_its_first_exits_are_the_published_ones() -> None:
    published = counted_as_the_authors_do(msdnet(), 32)
    assert [round(flops, 1) for flops in published[:2]] == [15.1, 25.5]
    assert round(published[-1], 2) == 75.86


@pytest.mark.parametrize(("exits", "last"), [(5, 58_030_336), (6, 88_493_568), (7, 136_484_608)])
def test_the_variants_for_mean_budgets_span_the_published_range(exits: int, last: int) -> None:
    flops = dense_flops(count_stages(msdnet(exits=exits, base=1, step=1, step_mode="lin_grow"), 32, 32))
    assert (flops[0], flops[-1]) == (6_781_184, last)


def test_counted_as_the_authors_count_the_mean_budget_range_is_the_published_one() -> None:
    published = counted_as_the_authors_do(msdnet(base=1, step=1, step_mode="lin_grow"), 32)
    assert (round(published[0], 2), round(published[-1])) == (6.85, 137)


def test_counted_as_the_authors_count_the_imagenet_variant_is_the_published_one() -> None:
    net = msdnet(1000, exits=5, step=4, scales=4, channels=32, growth=16, large_input=True)
    published = counted_as_the_authors_do(net, 224)
    assert [round(flops, 2) for flops in published] == [339.90, 685.46, 1008.16, 1254.47, 1360.53]


def test_blocks_grow_evenly_or_linearly() -> None:
    assert layers_per_block(4, 4, 2, "even") == (4, 2, 2, 2)
    assert tuple(accumulate(layers_per_block(5, 1, 1, "lin_grow"))) == (1, 3, 6, 10, 15)


def test_the_features_are_the_live_scales_with_halved_channels_after_each_drop() -> None:
    net, features, shapes = msdnet().eval(), (torch.zeros(2, 3, 32, 32),), []
    with torch.no_grad():
        for block in net.blocks:
            features = block(features)
            shapes.append([tuple(x.shape[1:3]) for x in features])
    assert shapes[0] == [(40, 32), (80, 16), (160, 8)]
    assert shapes[1] == [(52, 32), (104, 16), (208, 8)]
    assert [len(scales) for scales in shapes] == [3, 3, 2, 2, 2, 1, 1]
    # Base: 16 + 6·6 = 52, dropping (52 + 6) // 2 = 29, + 5·6 = 59, dropping 65 // 2 = 32, + 3·6 = 50.
    assert shapes[-1] == [(4 * 50, 8)]


def test_down_reads_the_finer_scale_as_it_was_before_the_layer() -> None:
    net = msdnet(**SMALL).eval()  # type: ignore[arg-type]
    seen: list[Features] = []
    layer = net.blocks[0].layers[1]
    for scale in layer.scales:
        assert isinstance(scale, DenseScale)
        scale.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    features = net.blocks[0].layers[0]((torch.zeros(1, 3, 32, 32),))
    layer(features)
    assert [len(inputs) for inputs in seen] == [1, 2, 2]
    assert all(inputs[0] is finer for inputs, (finer, _) in zip(seen[1:], pairwise(features), strict=True))


@pytest.mark.parametrize("classes", [10, 100])
def test_every_exit_answers_every_image_of_a_batch(classes: int) -> None:
    net = msdnet(classes, exits=4, **SMALL).eval()  # type: ignore[arg-type]
    assert [logits.shape for logits in net(torch.zeros(3, 3, 32, 32))] == [(3, classes)] * 4


@pytest.mark.parametrize("scales", [1, 2, 4])
def test_other_numbers_of_scales_build_and_run(scales: int) -> None:
    net = msdnet(scales=scales, activation="gelu", **SMALL).eval()  # type: ignore[arg-type]
    assert len(net(torch.zeros(1, 3, 32, 32))) == 7


@pytest.mark.parametrize("step_mode", ["even", "lin_grow"])
def test_running_span_by_span_is_running_the_whole(step_mode: str) -> None:
    torch.manual_seed(0)
    net = nets.build("msdnet", {"step_mode": step_mode, "step": 1, "exits": 5, **SMALL}).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        whole = net(images)
        for last in range(5):
            _, alone = net.run_span(Span(0, last), (images,))
            torch.testing.assert_close(alone, whole[last])
        for cut in range(4):
            features, _ = net.run_span(Span(0, cut), (images,))
            _, logits = net.run_span(Span(cut + 1, 4), features)
            torch.testing.assert_close(logits, whole[4])


def test_folding_batch_norm_changes_no_answer_and_leaves_no_batch_norm() -> None:
    torch.manual_seed(0)
    net = nets.build("msdnet", SMALL)
    net(torch.randn(16, 3, 32, 32))
    net.eval()
    folded = fold_batch_norm(net)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(folded(images), net(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"depth": 3}, "does not take"),
        ({"scales": 0}, r"scales must be 1\.\.4, got 0"),
        ({"scales": 5}, r"scales must be 1\.\.4, got 5"),
        ({"exits": 0}, "exits, base and step"),
        ({"base": 0}, "exits, base and step"),
        ({"step": 0}, "exits, base and step"),
        ({"step_mode": "odd"}, "step_mode must be one of even, lin_grow, got 'odd'"),
        ({"num_classes": 0}, "at least 1"),
        ({"channels": 0}, "at least 1"),
        ({"growth": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_built_is_a_clear_error(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        nets.build("msdnet", arguments)
