"""Losses: what each means asks of the logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from model_store import nets
from model_store.training.augment import Targets
from model_store.training.losses import balance_gradients, boosted, total_loss
from model_store.training.recipes import RECIPES

PLAIN = RECIPES["cifar10-fusion"].model_copy(
    update={"mix": 0.0, "boost": 0.0, "self_distillation": 0.0, "label_smoothing": 0.0}
)


@pytest.fixture
def logits() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(4, 10, requires_grad=True) for _ in range(3)]


LABELS = torch.tensor([1, 2, 3, 4])
TARGETS = Targets(LABELS, LABELS, torch.ones(4))


def test_the_plain_loss_is_the_sum_of_cross_entropies(logits: list[torch.Tensor]) -> None:
    expected = sum(functional.cross_entropy(x, LABELS) for x in logits)
    torch.testing.assert_close(total_loss(logits, TARGETS, PLAIN), expected)


def test_mixed_labels_count_by_their_share(logits: list[torch.Tensor]) -> None:
    recipe = PLAIN.model_copy(update={"mix": 1.0})
    other = Targets(LABELS, LABELS.flip(0), torch.full((4,), 0.25))
    expected = sum(
        0.25 * functional.cross_entropy(x, LABELS) + 0.75 * functional.cross_entropy(x, LABELS.flip(0))
        for x in logits
    )
    torch.testing.assert_close(total_loss(logits, other, recipe), expected)


def test_boosted_exits_add_earlier_ones_without_teaching_them(logits: list[torch.Tensor]) -> None:
    sums = boosted(logits, 0.5)
    torch.testing.assert_close(sums[2], logits[2] + 0.5 * (logits[1] + 0.5 * logits[0]))
    sums[2].sum().backward()
    assert logits[0].grad is None and logits[2].grad is not None


def test_self_distillation_pulls_early_exits_to_the_last_and_leaves_that_one_alone(
    logits: list[torch.Tensor],
) -> None:
    recipe = PLAIN.model_copy(update={"self_distillation": 1.0})
    total_loss(logits, TARGETS, recipe).backward()
    before = functional.kl_div(logits[0].log_softmax(1), logits[2].softmax(1), reduction="batchmean")
    after = functional.kl_div(
        (logits[0] - logits[0].grad).log_softmax(1), logits[2].softmax(1), reduction="batchmean"
    )
    assert after < before
    alone = logits[2].detach().requires_grad_()
    functional.cross_entropy(alone, LABELS).backward()
    torch.testing.assert_close(logits[2].grad, alone.grad)


def test_a_teacher_that_agrees_costs_nothing(logits: list[torch.Tensor]) -> None:
    recipe = PLAIN.model_copy(update={"teacher_weight": 1.0, "teacher": "any"})
    same = [logits[0]] * 3
    assert total_loss(same, TARGETS, recipe, logits[0].detach()).item() == pytest.approx(0, abs=1e-5)
    assert total_loss(same, TARGETS, recipe, logits[1].detach()).item() > 0.1


def scaled(features: tuple[torch.Tensor, ...], share: float) -> tuple[torch.Tensor, ...]:
    """The same values, with ``share`` of the gradient flowing back."""
    return tuple(x * share + x.detach() * (1 - share) for x in features)


def test_balanced_gradients_are_those_of_scaled_branches() -> None:
    torch.manual_seed(0)
    arguments = {"num_classes": 2, "channels": 8, "growth": 4, "layers_per_block": [1, 1, 1]}
    net = nets.build("fusion", arguments).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    sum(x.square().mean() for x in net(images)).backward()
    balance_gradients(net)
    found = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    features: tuple[torch.Tensor, ...] = (images,)
    loss = torch.zeros(())
    for k, (block, head) in enumerate(zip(net.blocks, net.heads, strict=True)):
        features, behind = block(features), net.stages - k
        loss = loss + head(scaled(features, 1 / behind)).square().mean()
        features = scaled(features, (behind - 1) / behind)
    loss.backward()
    heads = {id(p) for p in net.heads.parameters()}
    for p, gradient in zip(net.parameters(), found, strict=True):
        if id(p) not in heads and gradient is not None:  # some of the last block's scales lead to no head
            torch.testing.assert_close(gradient, p.grad)
