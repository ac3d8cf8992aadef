"""Logits of exits as a network with known costs might have them, for tests of calibration."""

from __future__ import annotations

import numpy as np
import torch

from model_store.flops import StageFlops
from model_store.training.scores import Scores

STAGES = (
    StageFlops(10_000_000, 1_000_000),
    StageFlops(5_000_000, 1_500_000),
    StageFlops(9_000_000, 1_000_000),
    StageFlops(16_000_000, 2_000_000),
)


def scores(
    rows: int, seed: int, strength: tuple[float, ...] = (3.0, 3.5, 3.9, 4.2), shift: float = 0.0
) -> Scores:
    """Logits of exits that see the same image with less and less noise; ``shift`` makes all images harder."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, rows)
    easiness = random.standard_normal(rows)
    noise = random.standard_normal((rows, 10))
    logits = np.empty((len(strength), rows, 10), dtype=np.float32)
    for k, signal in enumerate(strength):
        logits[k] = noise
        logits[k][np.arange(rows), labels] += signal + 1.5 * easiness - shift
        logits[k] *= 1.6
        noise = 0.85 * noise + np.sqrt(1 - 0.85**2) * random.standard_normal((rows, 10))
    return Scores(
        torch.from_numpy(logits), torch.from_numpy(labels), f"rows{seed}", tuple(range(len(strength)))
    )
