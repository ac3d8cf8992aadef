"""What a teacher says: asked about each batch, or once, about every training image, before training."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

HINTS = "hints.pt"


def last_logits(teacher: nn.Module, images: Tensor) -> Tensor:
    """Logits of the teacher's last exit, float32 (B, num_classes), without gradients."""
    with torch.no_grad():
        logits: list[Tensor] = teacher(images)
    return logits[-1].float()


def mirrored_logits(teacher: nn.Module, images: Tensor) -> Tensor:
    """The mean of what the teacher says about images and about their mirror images, (B, num_classes)."""
    return (last_logits(teacher, images) + last_logits(teacher, images.flip(3))) / 2


def remembered(folder: Path, origin: Mapping[str, str], ask: Callable[[], Tensor]) -> Tensor:
    """What ``ask`` returns; kept in ``folder``, so that a resumed run does not ask again.

    Args:
        folder: Of the run.
        origin: Teacher and rows. What is there of another origin is refused: half a run would be taught
            something else than the other half.
        ask: Makes the logits of all rows, (N, num_classes).

    Raises:
        ValueError: The folder holds what another teacher said, or about other rows.
    """
    path = folder / HINTS
    if path.exists():
        known = torch.load(path, map_location="cpu", weights_only=True)
        if known["origin"] != dict(origin):
            raise ValueError(f"{path} was made by another teacher or for other rows; remove it")
        logits: Tensor = known["logits"]
        return logits
    logits = ask().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{HINTS}.partial"
    torch.save({"origin": dict(origin), "logits": logits}, partial)
    os.replace(partial, path)
    return logits
