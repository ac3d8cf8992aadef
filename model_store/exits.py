"""The exit rule: pure tensor functions from the logits of one exit to what is decided and reported."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Confidence = Literal["probability", "margin", "normalised"]
"""How sure an exit is of its answer; the artifact's policy names the one its thresholds are in.

probability: the largest softmax probability.
margin: the largest minus the second largest softmax probability.
normalised: the largest centred logit over the Euclidean norm of the centred logits; restores the ranking that
    label smoothing and mixup spoil. Source: Cattelan and Silva 2024, arXiv:2305.15508, MaxLogit-pNorm.
"""

TOP = 5
"""Classes reported per answer, fewer where the task has fewer."""


def scaled(logits: Tensor, temperature: float) -> Tensor:
    """Divide logits float32 (B, num_classes) by an exit's temperature, before anything is read from them.

    Above 1 it makes an overconfident exit's probabilities smaller; the predicted class stays.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    return logits if temperature == 1 else logits / temperature


def confidence(logits: Tensor, measure: Confidence) -> Tensor:
    """Return each row's confidence, float32 (B,), for logits float32 (B, num_classes); larger is surer."""
    if measure == "normalised":
        centred = logits - logits.mean(dim=1, keepdim=True)
        length: Tensor = torch.linalg.vector_norm(centred, dim=1).clamp_min(1e-12)
        return centred.amax(dim=1) / length
    probabilities = logits.softmax(dim=1)
    if measure == "margin":
        best = probabilities.topk(min(2, logits.shape[1]), dim=1).values
        return best[:, 0] - best[:, 1] if best.shape[1] == 2 else best[:, 0]
    return probabilities.amax(dim=1)


def read(logits: Tensor, measure: Confidence, temperature: float = 1.0, whole: bool = False) -> Tensor:
    """Read everything that is decided or reported at an exit, in one tensor: one copy per launch.

    Args:
        logits: float32 (B, num_classes).
        measure: Confidence that the policy's thresholds are in.
        temperature: Of this exit, from the policy.
        whole: Whether to report the probabilities of all classes, too.

    Returns:
        float32 (B, 1 + 2·T), T = min(5, num_classes): the confidence, the T largest probabilities in falling
            order, and their class indices (exact in float32 up to 16 million classes). With ``whole`` (B, 1 +
            2·T + num_classes): then follow the probabilities of all classes in index order.
    """
    logits = scaled(logits, temperature)
    probabilities = logits.softmax(dim=1)
    top = probabilities.topk(min(TOP, logits.shape[1]), dim=1)
    sure = top.values[:, :1] if measure == "probability" else confidence(logits, measure)[:, None]
    columns = [sure, top.values, top.indices.to(torch.float32)]
    return torch.cat([*columns, probabilities] if whole else columns, dim=1)
