"""Parts of a training step that are functions: rate, loss, accuracy, precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_store.nets.staged import StagedNet
from model_store.training.data import Rows, batches
from model_store.training.recipes import Recipe


def cycle_rate(step: int, length: int, warmup: float, recipe: Recipe) -> float:
    """Rate at ``step`` of a cycle of ``length`` steps that rises for ``warmup`` steps, then falls to 0."""
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    left = 1 - (step - warmup) / (length - warmup)
    return recipe.learning_rate * (left if recipe.decay == "linear" else 0.5 - 0.5 * math.cos(left * math.pi))


def sum_of_losses(logits: list[Tensor], labels: Tensor, label_smoothing: float) -> Tensor:
    """Plain sum over the exits of the cross-entropy, a scalar."""
    losses = [functional.cross_entropy(x.float(), labels, label_smoothing=label_smoothing) for x in logits]
    return torch.stack(losses).sum()


@torch.inference_mode()
def exit_accuracies(net: nn.Module, rows: Rows, recipe: Recipe, batch_size: int = 500) -> list[float]:
    """Share of ``rows`` that each exit classifies correctly, single view, all exits run."""
    mean = torch.tensor(recipe.mean).view(1, 3, 1, 1) * 255
    std = torch.tensor(recipe.std).view(1, 3, 1, 1) * 255
    assert isinstance(net, StagedNet)
    right = torch.zeros(net.stages)
    device = next(net.parameters()).device
    net.eval()
    for images, labels in batches(rows, batch_size):
        x = ((images.float() - mean) / std).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16()):
            logits = net(x)
        right += torch.stack([(y.argmax(1).cpu() == labels).sum() for y in logits])
    return [float(share) for share in right / len(rows)]


def has_bf16() -> bool:
    """Whether bf16 pays: on CUDA devices that support it and CPUs with AMX or AVX512-BF16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
