"""Compute-limited training: what a step costs, where a run ends, which state counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_train import colours
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model_store.flops import count_stages, dense_flops
from model_store.nets.staged import StagedNet
from model_store.training.limited import (
    CHECKS,
    Check,
    LimitedRun,
    Setting,
    best_settings,
    grid,
    step_flops,
    train_limited,
)
from model_store.training.recipe import plain_recipe
from model_store.zoo import Entry, zoo

ADAM = Setting(optimizer="adam", learning_rate=1e-3, batch_size=16)
TINY = Entry(
    name="tiny",
    network="fusion",
    arguments={"channels": 8, "growth": 4, "layers_per_block": [1, 1]},
    side=32,
)


def test_forward_and_backward_cost_what_pytorch_counts() -> None:
    net = zoo()["squeezenet1_1-cifar"].build(32)
    images = torch.randn(4, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        net(images)[0].sum().backward()
    counted = counter.get_total_flops() / 2  # PyTorch counts two per multiply-add
    forward = dense_flops(count_stages(net, 32, 32))[-1]
    ours = step_flops(0, forward, ADAM.model_copy(update={"batch_size": 4}))
    assert 0.97 * ours < counted <= ours  # the first layer needs no gradient of its input


def test_a_step_costs_its_update_too() -> None:
    sgd = ADAM.model_copy(update={"optimizer": "sgd"})
    assert step_flops(1_000, 10, ADAM) == 16 * 30 + 6_000
    assert step_flops(1_000, 10, sgd) == 16 * 30 + 2_000


def test_a_run_ends_before_the_limit_and_learns() -> None:
    rows = colours(128)
    image = dense_flops(count_stages(TINY.build(32, num_classes=2), 32, 32))[-1]
    parameters = sum(p.numel() for p in TINY.build(32, num_classes=2).parameters())
    cost = step_flops(parameters, image, ADAM)
    run = train_limited(TINY, ADAM, 40.5 * cost, rows, rows, rows, plain_recipe(rows))
    assert run.checks[-1].flops == 40 * cost and len(run.checks) == CHECKS
    assert run.checks[-1].epochs == 5.0
    assert run.epoch_flops == cost * 8 and run.epochs_affordable == pytest.approx(40.5 / 8)
    assert run.best.accuracy > 0.9 and run.test_accuracy == run.best.accuracy  # the same rows here
    with pytest.raises(ValueError, match="one step costs"):
        train_limited(TINY, ADAM, cost - 1, rows, rows, rows, plain_recipe(rows))


def test_of_each_network_the_best_in_validation_counts_not_the_best_in_test() -> None:
    def run(network: str, accuracy: float, test: float) -> LimitedRun:
        return LimitedRun(
            network=network,
            setting=ADAM,
            seed=0,
            rows="rows",
            parameters=1,
            image_flops=1,
            epoch_flops=1,
            limit=1,
            checks=(Check(flops=1, epochs=1, accuracy=accuracy),),
            test_accuracy=test,
            seconds=0,
        )

    results = [run("a", 0.7, 0.9), run("a", 0.8, 0.6), run("b", 0.5, 0.5)]
    assert [(best.network, best.test_accuracy) for best in best_settings(results)] == [("a", 0.6), ("b", 0.5)]


def test_a_grid_holds_every_combination() -> None:
    settings = grid(("adam", "sgd"), (1e-3, 1e-4, 1e-5), (32, 64, 128))
    assert len(set(settings)) == 18 and str(settings[0]) == "adam-0.001-32"


def test_slow_batch_norm_statistics_do_not_hide_what_was_learnt() -> None:
    class Slow(Entry):
        def build(self, side: int, **changes: Any) -> StagedNet:
            net = super().build(side, **changes)
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 3e-4  # as torchvision's MnasNet: an average over 3,300 steps
            return net

    rows = colours(128)
    slow = Slow(**TINY.model_dump())
    image = dense_flops(count_stages(slow.build(32, num_classes=2), 32, 32))[-1]
    cost = step_flops(sum(p.numel() for p in slow.build(32, num_classes=2).parameters()), image, ADAM)
    run = train_limited(slow, ADAM, 40 * cost, rows, rows, rows, plain_recipe(rows))
    assert run.best.accuracy > 0.9
