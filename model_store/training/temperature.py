"""Temperature scaling: one number per exit that makes its probabilities mean what they say.

Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

from math import exp, log

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from model_store.training.report import standard_error
from model_store.training.scores import Scores

LEAST, MOST = 0.1, 10.0
"""Range of temperatures; rows that are all right, or all wrong, have no optimum inside."""

HALVINGS = 40
"""Bisection steps: the temperature is found to a relative 1e-11."""


def fit_temperatures(scores: Scores) -> tuple[float, ...]:
    """Temperature of each exit, by ``fit_temperature``."""
    return tuple(fit_temperature(logits, scores.labels) for logits in scores.logits)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T under which softmax(logits / T) has the least cross-entropy.

    Args:
        logits: float32 (N, num_classes).
        labels: int64 (N,).
    """
    values = logits.double()
    right = values.gather(1, labels[:, None])[:, 0]
    low, high = log(LEAST), log(MOST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = ((values / exp(middle)).softmax(dim=1) * values).sum(dim=1)
        # The loss is convex in 1/T, and this is the sign of its derivative.
        if float((expected - right).mean()) > 0:
            low = middle
        else:
            high = middle
    return exp((low + high) / 2)


def useful_temperatures(scores: Scores) -> tuple[float, ...] | None:
    """Temperatures of all exits, or ``None`` if they do not make probabilities likelier beyond noise.

    Judged across folds, so that the rows which judge did not fit: the gain in cross-entropy, averaged over
    the exits, must exceed twice its standard error, paired by row.
    """
    gains = []
    for fitted, judged in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        labels = scores.labels[judged]
        gain = torch.zeros(len(labels), dtype=torch.float64)
        for logits in scores.logits.double():
            temperature = fit_temperature(logits[fitted], scores.labels[fitted])
            plain, scaled = logits[judged], logits[judged] / temperature
            gain += cross_entropy(plain, labels, reduction="none")
            gain -= cross_entropy(scaled, labels, reduction="none")
        gains.append(gain)
    rows = torch.cat(gains).numpy()
    return fit_temperatures(scores) if rows.mean() > 2 * standard_error(rows) else None
