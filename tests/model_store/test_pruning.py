"""Pruning by L1 norm: the weakest channels and weights go, the rest stays as it was."""

from __future__ import annotations

import pytest
import torch
from conftest import small_manifest, small_net
from torch import nn

from model_store import nets
from model_store.flops import count_stages, dense_flops
from model_store.nets.resnet import Residual
from model_store.training.pruning import fine_tuning, parameters, prune_channels, prune_weights, sparsity

ARGUMENTS = {"num_classes": 10, "small_input": True, "squeeze_excitation": True, "width": 0.25}


def test_the_channels_with_the_smallest_norms_go() -> None:
    torch.manual_seed(0)
    net = nets.build("resnet", ARGUMENTS).eval()
    block = [module for module in net.modules() if isinstance(module, Residual)][6]
    first, last = (module for module in block.layers.modules() if isinstance(module, nn.Conv2d))
    weak = torch.randperm(first.out_channels)[: first.out_channels // 2]
    with torch.no_grad():
        first.weight[weak] *= 1e-3
        last.weight[:, weak] *= 1e-3
    strong = sorted(set(range(first.out_channels)) - set(weak.tolist()))
    pruned, arguments = prune_channels(net, ARGUMENTS, 32, 0.3)
    assert parameters(pruned) <= 0.7 * parameters(net)
    kept = arguments["inner"][6]
    assert len(strong) <= kept < first.out_channels
    survivor = [module for module in pruned.modules() if isinstance(module, Residual)][6]
    norms = next(m for m in survivor.layers.modules() if isinstance(m, nn.Conv2d)).weight.abs().sum((1, 2, 3))
    assert int((norms > 0.5 * norms.max()).sum()) == len(strong)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_shares_that_make_no_sense_are_refused(share: float) -> None:
    net = nets.build("resnet", ARGUMENTS)
    with pytest.raises(ValueError, match="share"):
        prune_channels(net, ARGUMENTS, 32, share)
    with pytest.raises(ValueError, match="share"):
        prune_weights(net, share)


def test_bottlenecks_keep_their_channels() -> None:
    arguments = {"blocks": (1, 1, 1, 1), "kind": "bottleneck", "width": 0.25}
    with pytest.raises(ValueError, match="basic blocks only"):
        prune_channels(nets.build("resnet", arguments), arguments, 64, 0.3)


def test_the_smallest_weights_of_all_layers_go_and_the_others_stay() -> None:
    torch.manual_seed(0)
    net = nets.build("resnet", ARGUMENTS)
    sparse = prune_weights(net, 0.4)
    assert sparsity(net) == 0 and sparsity(sparse) == pytest.approx(0.4, abs=1e-3)
    threshold, smallest_kept = 0.0, float("inf")
    for key, before in net.state_dict().items():
        after = sparse.state_dict()[key]
        gone = (after == 0) & (before != 0)
        assert torch.equal(after[~gone], before[~gone])
        if gone.any():
            threshold = max(threshold, before[gone].abs().max().item())
            smallest_kept = min(smallest_kept, after[~gone].abs().min().item())
    assert threshold <= smallest_kept


def test_of_parameters_and_flops_at_least_the_share_goes_in_whole_vectors() -> None:
    arguments = {"num_classes": 10, "small_input": True, "width": 0.5, "squeeze_excitation": True}
    whole = nets.build("resnet", arguments).eval()
    pruned, left = prune_channels(whole, arguments, 32, 0.27)
    flops, flops_left = (dense_flops(count_stages(net, 32, 32))[-1] for net in (whole, pruned))
    assert 0.60 <= parameters(pruned) / parameters(whole) <= 0.73
    assert 0.65 <= flops_left / flops <= 0.73
    assert all(channels % 16 == 0 for channels in (*left["streams"], *left["inner"]))


def test_a_teacher_sets_the_target_of_fine_tuning_if_one_is_named() -> None:
    manifest, _ = small_manifest(small_net())
    alone = fine_tuning(manifest, manifest.arguments, 2, keep_zeros=True)
    taught = fine_tuning(manifest, manifest.arguments, 2, keep_zeros=True, teacher="cifar10-teacher-cpu")
    assert (alone.teacher, alone.teacher_weight, alone.teacher_once) == (None, 0.0, False)
    assert (taught.teacher, taught.teacher_weight, taught.teacher_once) == ("cifar10-teacher-cpu", 0.7, True)
    assert taught.start == "small@1" and taught.keep_zeros
