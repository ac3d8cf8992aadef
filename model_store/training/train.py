"""Train a staged network from a recipe: resumable after every epoch, clean on Ctrl-C."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model_store import nets
from model_store.nets.staged import StagedNet
from model_store.store import encode_weights, weights_sha256
from model_store.training.augment import Augmentation, Chance
from model_store.training.checkpoint import read_checkpoint, recipe_of, write_checkpoint
from model_store.training.clean import CleanRows
from model_store.training.data import Rows
from model_store.training.losses import balance_gradients, magnitude, total_loss
from model_store.training.optimizers import Optimizers, rate_share
from model_store.training.recipe import Recipe
from model_store.training.start import adopt_weights, check_fit, freeze
from model_store.training.teaching import Teaching, check_origin

logger = logging.getLogger(__name__)


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
    ``made_from`` holds the SHA-256 of the weights of ``start`` and ``teacher``, where there are such.
    """

    def __init__(
        self,
        recipe: Recipe,
        rows: Rows,
        folder: Path,
        *,
        seed: int = 0,
        compile_net: bool = True,
        start: StagedNet | None = None,
        teacher: StagedNet | None = None,
    ) -> None:
        """Prepare the run; an existing checkpoint in ``folder`` is resumed.

        Args:
            recipe: What to train and how.
            rows: Training rows.
            folder: Holds ``checkpoint.pt``; made if missing.
            seed: Seeds initialisation, order and augmentation of every epoch.
            compile_net: Use ``torch.compile``: two minutes to start, a third less time per step.
            start: The network that ``recipe.start`` names.
            teacher: The network that ``recipe.teacher`` names.

        Raises:
            ValueError: Something is missing or does not fit: rows, ``start``, ``teacher``, the checkpoint.
        """
        self.recipe, self.folder, self.seed = recipe, folder, seed
        self.accelerator = Accelerator(mixed_precision="bf16" if has_bf16() else "no")
        self.device = self.accelerator.device
        check_fit(recipe, rows, self.accelerator.num_processes, start, teacher)
        self.rows = rows.to(self.device)
        torch.manual_seed(seed)
        net = nets.build(recipe.network, recipe.arguments)
        if start is not None and adopt_weights(net, start) == 0:
            raise ValueError(f"{recipe.start} shares no tensor with the network {recipe.network}")
        freeze(net, recipe.frozen)
        pruned = [p for p in net.parameters() if recipe.keep_zeros and p.ndim > 1]
        self._zeros = [(p, (p == 0).to(self.device)) for p in pruned]
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
        self.augmentation = Augmentation(recipe, self.device)
        self._clean = CleanRows(self.rows, self.augmentation, self.accelerator, seed)
        self.made_from = {
            role: weights_sha256(encode_weights(given))
            for role, given in (("start", start), ("teacher", teacher))
            if given is not None
        }
        self.average: AveragedModel = AveragedModel(
            net,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        self.optimizers = Optimizers(net, recipe)
        self.steps_per_epoch = len(rows) // recipe.batch_size
        self.epoch = 0
        self.seconds = 0.0
        self._resume()
        self._teachers = self._teaching(start, teacher)
        wrapped: nn.Module = self.accelerator.prepare_model(net)
        # CUDA graphs, because training is launch-bound there; one graph for each of the two image sizes.
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        compiled = torch.compile(wrapped, dynamic=False, mode=mode) if compile_net else wrapped
        self._forward: Callable[[Tensor], list[Tensor]] = compiled

    @property
    def done(self) -> bool:
        """All epochs of the recipe are trained."""
        return self.epoch >= self.recipe.epochs

    def averaged_net(self) -> StagedNet:
        """The moving average of the weights, in evaluation mode, on the device.

        BatchNorm statistics are estimated anew on clean training images: nobody has ever computed those of
        averaged weights, nor those without augmentation.
        """
        net = copy.deepcopy(self.average.module)
        assert isinstance(net, StagedNet)
        self._clean.estimate_batch_norm(net)
        return net

    def _teaching(self, start: StagedNet | None, teacher: StagedNet | None) -> Teaching | None:
        """Who teaches, ready to be asked; nobody once all epochs are trained."""
        if teacher is None or self.done:
            return None
        nets_by_role = {"teacher": teacher, "start": start if self.recipe.teacher_with_start else None}
        teachers = {role: net for role, net in nets_by_role.items() if net is not None}
        origin = {"rows": self.rows.source} | {role: self.made_from[role] for role in teachers}
        remember_in = self.folder if self.recipe.teacher_once else None
        return Teaching(teachers.values(), self._clean, self.accelerator, remember_in, origin)

    def train_epoch(self, report: Callable[[Progress], None] = lambda _: None) -> None:
        """Train one more epoch and write the checkpoint; interrupted, nothing of the epoch is on disk."""
        started_s = time.perf_counter()
        self.net.train()
        chance = Chance(self.seed, self.epoch, self.device, self.accelerator.process_index)
        small = self.epoch < self.recipe.small_epochs
        window = self.recipe.small_px if small else self.rows.images.shape[2]
        for step, chosen in enumerate(self._order(chance)):
            loss = self._step(chosen, window, chance, step)
            if step % 10 == 9 or step + 1 == self.steps_per_epoch:
                rate = (step + 1) * self.recipe.batch_size / (time.perf_counter() - started_s)
                total = self.recipe.epochs
                report(Progress(self.epoch, total, step + 1, self.steps_per_epoch, loss.item(), rate))
        self.epoch += 1
        self.seconds += time.perf_counter() - started_s
        if self.accelerator.is_main_process:
            write_checkpoint(self.folder, self._state())

    def _order(self, chance: Chance) -> Iterator[Tensor]:
        """What this process trains on in this epoch: row numbers, a batch at a time."""
        order = chance.order(len(self.rows)).to(self.device)
        share = self.recipe.batch_size // self.accelerator.num_processes
        first = self.accelerator.process_index * share
        for batch in torch.split(order, self.recipe.batch_size)[: self.steps_per_epoch]:
            yield batch[first : first + share]

    def _step(self, chosen: Tensor, window: int, chance: Chance, step: int) -> Tensor:
        """One gradient step on the rows ``chosen``; returns the loss."""
        images, labels = self.rows.images[chosen], self.rows.labels[chosen]
        batch, targets = self.augmentation(images, labels, window, chance)
        said = self._teachers.logits(batch, chosen) if self._teachers else None
        loss = total_loss(self._forward(batch), targets, self.recipe, said)
        if self.recipe.l1 > 0:
            loss = loss + self.recipe.l1 * magnitude(self.net)
        self.accelerator.backward(loss)
        if self.recipe.equilibrium:
            balance_gradients(self.net)
        if self.recipe.clip_norm > 0:
            self.accelerator.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        steps_done = self.epoch * self.steps_per_epoch + step
        self.optimizers.step(rate_share(steps_done, self.recipe, self.steps_per_epoch))
        for parameter, zeros in self._zeros:
            parameter.data.masked_fill_(zeros, 0.0)
        self.average.update_parameters(self.net)
        return loss.detach()

    def _state(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.model_dump_json(),
            "seed": self.seed,
            "rows": self.rows.source,
            "made_from": self.made_from,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": self.optimizers.state_dict(),
        }

    def _resume(self) -> None:
        state = read_checkpoint(self.folder, self.device)
        if state is None:
            return
        same = recipe_of(state) == self.recipe and state["seed"] == self.seed
        if not same or state.get("rows") != self.rows.source:
            raise ValueError(
                f"{self.folder} holds the checkpoint of another recipe, seed or data set; "
                "choose another folder or remove it"
            )
        check_origin(self.folder, state.get("made_from", {}), self.made_from)
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizers.load_state_dict(state["optimizers"])
        logger.info("resumed", extra={"epoch": self.epoch, "folder": str(self.folder)})


def has_bf16() -> bool:
    """Whether training in bf16 pays: on CUDA devices that support it and CPUs with AMX.

    Not with AVX512-BF16 alone: 230 against 242 images/s in float32 (fusion network, batch 128, compiled).
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())
