"""Train a staged network from a recipe: resumable after every epoch, clean on Ctrl-C."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from model_store import nets
from model_store.nets.staged import StagedNet
from model_store.training.data import Rows
from model_store.training.recipes import Recipe
from model_store.training.steps import cycle_rate, has_bf16, sum_of_losses

logger = logging.getLogger(__name__)

BATCH_NORM_ROWS = 10_000
"""Training images from which BatchNorm statistics are estimated anew."""


@dataclass(frozen=True)
class Progress:
    """State of a run after some step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_s: float


class Run:
    """One training run and its checkpoint.

    The network trained with gradient steps is ``net``; what is published is ``average``, its moving average.
    """

    def __init__(
        self, recipe: Recipe, rows: Rows, folder: Path, *, seed: int = 0, compile_net: bool = True
    ) -> None:
        """Prepare the run; an existing checkpoint in ``folder`` is resumed.

        Args:
            recipe: What to train and how.
            rows: Training rows.
            folder: Holds ``checkpoint.pt``; made if missing.
            seed: Seeds initialisation, order and augmentation of every epoch.
            compile_net: Use ``torch.compile``; a minute to start, a third less time per step.

        Raises:
            ValueError: The checkpoint belongs to another recipe or seed.
        """
        self.recipe, self.rows, self.folder, self.seed = recipe, rows, folder, seed
        precision = "bf16" if has_bf16() else "no"
        self.accelerator = Accelerator(mixed_precision=precision, step_scheduler_with_optimizer=False)
        self.device = self.accelerator.device
        torch.manual_seed(seed)
        net = nets.build(recipe.network, recipe.arguments).to(self.device)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from the stubs
        self.net = net
        self.average: AveragedModel = AveragedModel(
            net,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        self.optimizer = torch.optim.SGD(
            _parameter_groups(net, recipe.weight_decay),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=True,
        )
        self.steps_per_epoch = len(rows) // recipe.batch_size
        self.epoch = 0
        self.seconds = 0.0
        self._cycles: list[dict[str, Tensor]] = []  # averages at the ends of all cycles but the last
        self._resume()
        wrapped: nn.Module = self.accelerator.prepare_model(net)
        self._forward: Callable[[Tensor], list[Tensor]] = torch.compile(wrapped) if compile_net else wrapped
        self.optimizer = self.accelerator.prepare_optimizer(self.optimizer)

    @property
    def epochs(self) -> int:
        """Epochs in all, restarts included."""
        return self.recipe.epochs + self.recipe.restarts * self.recipe.restart_epochs

    @property
    def done(self) -> bool:
        """All epochs of the recipe are trained."""
        return self.epoch >= self.epochs

    def published_net(self) -> StagedNet:
        """The moving average of the weights, in evaluation mode, on the CPU.

        After warm restarts the mean of the averages at the ends of all cycles. Source: SWA, arXiv:1803.05407.
        """
        net = copy.deepcopy(self.average.module)
        assert isinstance(net, StagedNet)
        if self._cycles:
            last = net.state_dict()
            for key in last:
                if last[key].is_floating_point():
                    ends = [last[key], *(cycle[key] for cycle in self._cycles)]
                    last[key].copy_(torch.stack(ends).mean(dim=0))
            self._estimate_batch_norm(net)
        return net.eval().cpu()

    def _estimate_batch_norm(self, net: StagedNet) -> None:
        """Statistics of the averaged weights, on clean training images: nobody has ever computed them."""
        mean = torch.tensor(self.recipe.mean).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.recipe.std).view(1, 3, 1, 1) * 255
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(self.seed))
        clean = (
            ((self.rows.images[chosen].float() - mean) / std).to(self.device)
            for chosen in torch.split(order[:BATCH_NORM_ROWS], 250)
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bf16()):
            update_bn(clean, net)

    def train_epoch(self, report: Callable[[Progress], None] = lambda _: None) -> None:
        """Train one more epoch and write the checkpoint; interrupted, nothing of the epoch is kept."""
        started_s = time.perf_counter()
        self.net.train()
        order, offsets, flips = self._plan_epoch()
        images, labels = self.rows.images.to(self.device), self.rows.labels.to(self.device)
        share = self.recipe.batch_size // self.accelerator.num_processes
        for step in range(self.steps_per_epoch):
            first = step * self.recipe.batch_size + self.accelerator.process_index * share
            chosen = order[first : first + share]
            batch = self._augment(images[chosen], offsets[chosen], flips[chosen])
            loss = self._step(batch, labels[chosen], step)
            if step % 10 == 9 or step + 1 == self.steps_per_epoch:
                rate = (step + 1) * self.recipe.batch_size / (time.perf_counter() - started_s)
                report(Progress(self.epoch, self.epochs, step + 1, self.steps_per_epoch, loss.item(), rate))
        self.epoch += 1
        past = self.epoch - self.recipe.epochs
        if not self.done and past >= 0 and past % self.recipe.restart_epochs == 0:
            self._cycles.append({k: v.clone() for k, v in self.average.module.state_dict().items()})
        self.seconds += time.perf_counter() - started_s
        if self.accelerator.is_main_process:
            self._save()

    def _plan_epoch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Order, crop offsets and flips of this epoch, from seed and epoch alone: resuming repeats them."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        count, span = len(self.rows), 2 * self.recipe.crop_padding + 1
        order = torch.randperm(count, generator=generator)
        offsets = torch.randint(0, span, (count, 2), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        return order.to(self.device), offsets.to(self.device), flips.to(self.device)

    def _augment(self, images: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
        """Crop at ``offsets`` from the padded images, flip, normalise: uint8 to float32, (B, 3, H, W)."""
        height, width = images.shape[2:]
        mean = torch.tensor(self.recipe.mean, device=self.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.recipe.std, device=self.device).view(1, 3, 1, 1) * 255
        padded = functional.pad((images.float() - mean) / std, [self.recipe.crop_padding] * 4)
        columns = torch.arange(width, device=self.device).expand(len(images), width)
        columns = torch.where(flips[:, None], width - 1 - columns, columns) + offsets[:, 1:]
        rows = torch.arange(height, device=self.device) + offsets[:, :1]
        index = torch.arange(len(images), device=self.device)
        # Advanced indices around the channel slice put the channels last: (B, H, W, 3).
        cropped = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return cropped.permute(0, 3, 1, 2)

    def _step(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        rate = self._learning_rate(self.epoch * self.steps_per_epoch + step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        logits = self._forward(images)
        loss = sum_of_losses(logits, labels, self.recipe.label_smoothing)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.net)
        return loss.detach()

    def _learning_rate(self, step: int) -> float:
        """Warm-up and fall to 0; then, for each restart, a shorter warm-up and another fall."""
        recipe, first = self.recipe, self.recipe.epochs * self.steps_per_epoch
        if step < first:
            return cycle_rate(step, first, recipe.warmup_epochs * self.steps_per_epoch, recipe)
        length = recipe.restart_epochs * self.steps_per_epoch
        place = (step - first) % length
        share = cycle_rate(place, length, 0.25 * self.steps_per_epoch, recipe) / recipe.learning_rate
        return recipe.restart_rate * share

    def _save(self) -> None:
        """Write the checkpoint beside the old one, then rename: there is a whole one at any time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "checkpoint.pt.partial"
        torch.save(self._state(), partial)
        os.replace(partial, self.folder / "checkpoint.pt")

    def _state(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.model_dump_json(),
            "seed": self.seed,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "cycles": self._cycles,
            "optimizer": self.optimizer.state_dict(),
        }

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["recipe"] != self.recipe.model_dump_json() or state["seed"] != self.seed:
            raise ValueError(f"{path} belongs to another recipe or seed; choose another folder or remove it")
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self._cycles = state["cycles"]
        self.optimizer.load_state_dict(state["optimizer"])
        logger.info("resumed", extra={"epoch": self.epoch, "path": str(path)})


def _parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay on weights, none on biases and BatchNorm."""
    weights = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
