"""What an exit says, for logits in the processor's memory: ``exits.read`` in NumPy.

The same figures in a few microseconds. Each of torch's dozen operations would hand the interpreter over, and
with the event loop busy the device's thread would wait up to ``process.SWITCH_S`` to get it back, every time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_store.exits import TOP, Confidence

Rows = NDArray[np.float32]


def read_rows(logits: Rows, measure: Confidence, temperature: float = 1.0, whole: bool = False) -> Rows:
    """See ``exits.read``.

    Args:
        logits: float32 (B, num_classes).
        measure: Confidence that the policy's thresholds are in.
        temperature: Of this exit, from the policy.
        whole: Whether to report the probabilities of all classes, too.

    Returns:
        float32, as ``exits.read``.
    """
    classes = logits.shape[1]
    top = min(TOP, classes)
    scaled = logits if temperature == 1 else logits / np.float32(temperature)
    probabilities = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    table = np.empty((len(logits), 1 + 2 * top + (classes if whole else 0)), np.float32)
    best = _best(probabilities, top)
    table[:, 1 : 1 + top] = np.take_along_axis(probabilities, best, axis=1)
    table[:, 1 + top : 1 + 2 * top] = best
    if whole:
        table[:, 1 + 2 * top :] = probabilities
    table[:, 0] = _confidence(scaled, table[:, 1 : 1 + top], measure)
    return table


def _best(values: Rows, top: int) -> NDArray[np.intp]:
    """Indices of the ``top`` largest values of each row, in falling order."""
    if values.shape[1] > 4 * top:
        largest = np.argpartition(values, -top, axis=1)[:, -top:]
        order = np.take_along_axis(values, largest, axis=1).argsort(axis=1)[:, ::-1]
        return np.take_along_axis(largest, order, axis=1)
    return values.argsort(axis=1)[:, : -top - 1 : -1]


def _confidence(scaled: Rows, best: Rows, measure: Confidence) -> Rows:
    """See ``exits.confidence``; ``best`` are the largest probabilities in falling order."""
    if measure == "normalised":
        centred = scaled - scaled.mean(axis=1, keepdims=True)
        length = np.maximum(np.linalg.norm(centred, axis=1), np.float32(1e-12))
        confidence: Rows = centred.max(axis=1) / length
        return confidence
    if measure == "margin" and best.shape[1] > 1:
        return best[:, 0] - best[:, 1]
    return best[:, 0]
