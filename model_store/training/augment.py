"""Augmentation of whole batches on the device that trains: uint8 in, normalised float32 out."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model_store.training.recipe import Recipe


@dataclass(frozen=True)
class Targets:
    """Labels of a batch, after mixing: ``labels`` with weight ``share``, ``others`` with the rest.

    Attributes:
        labels: int64 (B,).
        others: int64 (B,), the same as ``labels`` where nothing is mixed.
        share: float32 (B,), 0..1.
    """

    labels: Tensor
    others: Tensor
    share: Tensor


class Chance:
    """Source of everything random in one epoch, from seed and epoch alone: resuming repeats it."""

    def __init__(self, seed: int, epoch: int, device: torch.device, process: int = 0) -> None:
        """Seed generators for what is drawn per image, on ``device``, per batch, and for the order of rows.

        The first differs between processes, which see different images; the others are the same for all.
        """
        mixed = seed * 100_003 + epoch
        self._device = device
        self._images = torch.Generator(device).manual_seed(mixed + 1_000_000_007 * process)
        self._rows = torch.Generator().manual_seed(mixed + 500_000_003)
        self.batch = random.Random(mixed)  # noqa: S311 - to be repeated, not secret

    def order(self, count: int) -> Tensor:
        """The numbers 0..``count`` - 1 in the order of this epoch, int64, on the CPU."""
        return torch.randperm(count, generator=self._rows)

    def integers(self, stop: int, *shape: int) -> Tensor:
        """Whole numbers 0..``stop`` - 1, int64, on the device."""
        return torch.randint(stop, shape, generator=self._images, device=self._device)

    def coins(self, *shape: int) -> Tensor:
        """True or false, equally likely, on the device."""
        return self.integers(2, *shape) == 1


class Augmentation:
    """Random crops, flips, cut-outs and mixtures of a batch."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Prepare for batches on ``device``."""
        self._recipe, self._device = recipe, device
        self._mean = torch.tensor(recipe.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(recipe.std, device=device).view(1, 3, 1, 1) * 255

    def normalised(self, images: Tensor) -> Tensor:
        """Images as evaluation sees them: uint8 to float32 (B, 3, H, W), channels last."""
        normal = (images.to(self._device).float() - self._mean) / self._std
        return normal.contiguous(memory_format=torch.channels_last)

    def __call__(self, images: Tensor, labels: Tensor, window: int, chance: Chance) -> tuple[Tensor, Targets]:
        """Augment a batch.

        Args:
            images: uint8 (B, 3, H, W) on the device.
            labels: int64 (B,) on the device.
            window: Side of what is cut out, pixels: H for padded crops, less for windows of the image.
            chance: Decides everything.

        Returns:
            Normalised images, float32 (B, 3, window, window), channels last, and their targets.
        """
        crops = self._crop(self.normalised(images), window, chance)
        if self._recipe.cutout > 0:
            crops.masked_fill_(self._boxes(crops, self._recipe.cutout, chance), 0.0)
        return self._mix(crops, labels, chance)

    def _crop(self, images: Tensor, window: int, chance: Chance) -> Tensor:
        """One random window of each padded image, half of them flipped."""
        count, side = len(images), images.shape[2]
        padding = self._recipe.crop_padding if window == side else 0
        rows, columns = chance.integers(side + 2 * padding - window + 1, 2, count, 1)
        flips = chance.coins(count, 1)
        ruler = torch.arange(window, device=self._device)
        columns = torch.where(flips, window - 1 - ruler, ruler) + columns
        padded = functional.pad(images, [padding] * 4)
        index = torch.arange(count, device=self._device)[:, None, None]
        # Advanced indices around the channel slice put the channels last: (B, window, window, 3).
        crops: Tensor = padded[index, :, (rows + ruler)[:, :, None], columns[:, None, :]]
        return crops.permute(0, 3, 1, 2)

    def _boxes(self, images: Tensor, side: float, chance: Chance) -> Tensor:
        """Mask (B, 1, H, W) of a square around a random centre in each image, perhaps over the border."""
        size = images.shape[2]
        centres = chance.integers(size, 2, len(images), 1)
        near = (torch.arange(size, device=self._device) + 0.5 - centres).abs() * 2 <= side
        rows, columns = near
        mask: Tensor = rows[:, None, :, None] & columns[:, None, None, :]
        return mask

    def _mix(self, images: Tensor, labels: Tensor, chance: Chance) -> tuple[Tensor, Targets]:
        """Mix a share of the batches with their own reverse order: mixup, or a CutMix box."""
        whole = torch.ones(len(images), device=self._device)
        if chance.batch.random() >= self._recipe.mix:
            return images, Targets(labels, labels, whole)
        share = chance.batch.random()
        others = images.flip(0)
        if chance.batch.random() < 0.5:
            mixed = share * images + (1 - share) * others
            return mixed, Targets(labels, labels.flip(0), whole * share)
        inside = self._boxes(images, images.shape[2] * (1 - share) ** 0.5, chance)
        share_kept = 1 - inside.float().mean(dim=(1, 2, 3))
        return torch.where(inside, others, images), Targets(labels, labels.flip(0), share_kept)
