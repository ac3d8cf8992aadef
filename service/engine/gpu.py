"""Memory of the CUDA device that runs the models, for the metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import nan

import torch

from service.metrics import Metrics


def show_memory(metrics: Metrics) -> None:
    """Have every scrape ask for the memory of the device in use; without one do nothing.

    A device that nobody has used yet is left alone: to ask it would take some hundred MB of it for a context.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    device = torch.cuda.current_device()
    kinds: dict[str, Callable[[], int]] = {
        "total": lambda: torch.cuda.mem_get_info(device)[1],
        "used": lambda: _used(device),
        "reserved": lambda: torch.cuda.memory_reserved(device),
        "allocated": lambda: torch.cuda.memory_allocated(device),
    }
    for kind, read in kinds.items():
        metrics.gpu_memory.labels(str(device), kind).set_function(partial(_or_nan, read))


def _or_nan(read: Callable[[], int]) -> float:
    """What is read, or NaN: a device that fails must not take all other metrics along."""
    try:
        return read()
    except RuntimeError:
        return nan


def _used(device: int) -> int:
    free, total = torch.cuda.mem_get_info(device)
    return total - free
