"""Training images as evaluation sees them, and the BatchNorm statistics that belong to them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from model_store.training.augment import Augmentation
from model_store.training.data import Rows

STATISTICS_ROWS = 10_000
"""Training images from which BatchNorm statistics are estimated anew."""

STATISTICS_BATCH = 250
"""Images at a time in that estimate."""


class CleanRows:
    """The training rows of a run without augmentation."""

    def __init__(self, rows: Rows, augmentation: Augmentation, accelerator: Accelerator, seed: int) -> None:
        """Take ``rows`` on the device; ``seed`` chooses those that statistics are estimated on."""
        self.rows = rows
        self._normalised = augmentation.normalised
        self._accelerator = accelerator
        self._seed = seed

    def batches(self, size: int) -> Iterator[Tensor]:
        """All rows in their order, ``size`` at a time, normalised, float32 (B, 3, H, W)."""
        return map(self._normalised, torch.split(self.rows.images, size))

    def estimate_batch_norm(self, net: nn.Module) -> None:
        """Estimate the BatchNorm statistics of ``net`` anew; leaves it in evaluation mode."""
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(self._seed))
        chosen = torch.split(order[:STATISTICS_ROWS].to(self.rows.images.device), STATISTICS_BATCH)
        with self._accelerator.autocast():
            update_bn((self._normalised(self.rows.images[batch]) for batch in chosen), net)
        net.eval()
