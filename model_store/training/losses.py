"""Losses of all exits together: what each means of a recipe asks of the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_store.nets.staged import StagedNet
from model_store.training.augment import Targets
from model_store.training.recipe import Recipe


def total_loss(
    logits: list[Tensor], targets: Targets, recipe: Recipe, teacher: Tensor | None = None
) -> Tensor:
    """Sum over the exits of cross-entropy and distillation, a scalar.

    Args:
        logits: K tensors, (B, num_classes), in depth order.
        targets: Labels of the batch.
        recipe: Says what is asked of each exit.
        teacher: The teacher's logits on the same images, (B, num_classes).
    """
    exits = boosted([x.float() for x in logits], recipe.boost)
    losses = [_cross_entropy(x, targets, recipe) for x in exits]
    weight = recipe.self_distillation
    if weight > 0:
        last = exits[-1].detach()
        for k, x in enumerate(exits[:-1]):
            losses[k] = (1 - weight) * losses[k] + weight * _divergence(x, last, recipe.temperature)
    if teacher is not None:
        weight = recipe.teacher_weight
        losses = [
            (1 - weight) * loss + weight * _divergence(x, teacher, recipe.temperature)
            for loss, x in zip(losses, exits, strict=True)
        ]
    return torch.stack(losses).sum()


def boosted(logits: list[Tensor], boost: float) -> list[Tensor]:
    """Sums s_k = x_k + ``boost``·s_(k-1), where s_(k-1) learns nothing from s_k; unchanged for 0."""
    if boost == 0:
        return logits
    summed = [logits[0]]
    for x in logits[1:]:
        summed.append(x + boost * summed[-1].detach())
    return summed


def magnitude(net: nn.Module) -> Tensor:
    """Sum of the magnitudes of all weights of convolutions and linear layers, a scalar."""
    return torch.stack([p.abs().sum() for p in net.parameters() if p.ndim > 1]).sum()


def balance_gradients(net: StagedNet) -> None:
    """Turn the sum of the exits' gradients in block k, 0-based, into their mean: K - k exits lie behind it.

    The same as scaling what flows back at each branch by 1/(K-k) and (K-k-1)/(K-k), without touching the
    forward pass. Source: Li et al. 2019, arXiv:1908.06294, section 3.1.
    """
    for k, block in enumerate(net.blocks):
        for p in block.parameters():
            if p.grad is not None:
                p.grad.div_(net.stages - k)


def _cross_entropy(logits: Tensor, targets: Targets, recipe: Recipe) -> Tensor:
    smoothing = recipe.label_smoothing
    if recipe.mix == 0:
        return functional.cross_entropy(logits, targets.labels, label_smoothing=smoothing)
    one, other = (
        functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        for labels in (targets.labels, targets.others)
    )
    return (targets.share * one + (1 - targets.share) * other).mean()


def _divergence(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the softened ``target``, on the scale of a cross-entropy.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    wanted = functional.log_softmax(target / temperature, dim=1)
    divergence = functional.kl_div(student, wanted, reduction="batchmean", log_target=True)
    return divergence * temperature**2
