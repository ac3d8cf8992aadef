"""What teachers say: asked about each batch, or once, about every training image, before training."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from model_store.nets.staged import StagedNet
from model_store.training.clean import CleanRows

TEACHER_LOGITS = "teacher_logits.pt"

TEACHER_BATCH = {"cpu": 25, "cuda": 250}
"""Images at a time that a teacher is asked about in advance. A core answers fastest what its cache holds: 262
images/s by 25, 152 by 250 (EfficientNet-Lite0 at 96 pixels, float32, one core of a Xeon, n = 500)."""


class TeacherEnsemble(nn.Module):
    """Several networks that teach as one: its only exit is the mean of their last exits."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        """Join ``members``, whose classes agree."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of the one exit, float32 (B, num_classes), for normalised images (B, 3, H, W)."""
        return [torch.stack([member(images)[-1].float() for member in self.members]).mean(0)]


class Teaching:
    """The logits that a run's teachers set as target, for each of its batches."""

    def __init__(
        self,
        teachers: Iterable[StagedNet],
        clean: CleanRows,
        accelerator: Accelerator,
        remember_in: Path | None,
        origin: Mapping[str, str],
    ) -> None:
        """Estimate the statistics of copies of ``teachers``, and ask them if they are asked in advance.

        Args:
            teachers: One network or several that teach as one; their last exits count.
            clean: The training rows.
            accelerator: Says where, in which precision and in which process.
            remember_in: Folder of what is said about all rows, if teachers are asked in advance.
            origin: Who teaches, by hash, and the rows.

        Raises:
            ValueError: They have not the classes of the rows, or the folder holds what others said.
        """
        self._accelerator, self._clean = accelerator, clean
        self._ensemble: nn.Module | None = None
        self._logits: Tensor | None = None
        ensemble = TeacherEnsemble(copy.deepcopy(teacher) for teacher in teachers)
        _check_classes(ensemble, clean)
        if remember_in is None:
            self._ensemble = self._prepared(ensemble)
            return
        with accelerator.main_process_first():  # the others read what the main one wrote
            logits = remembered(remember_in, origin, lambda: self._ask_about_all(self._prepared(ensemble)))
        self._logits = logits.to(accelerator.device)

    def logits(self, batch: Tensor, chosen: Tensor) -> Tensor:
        """What the teachers say about the batch made of the rows ``chosen``, float32 (B, num_classes)."""
        if self._logits is not None:
            return self._logits[chosen]
        assert self._ensemble is not None
        with self._accelerator.autocast():
            return last_logits(self._ensemble, batch)

    def _prepared(self, ensemble: nn.Module) -> nn.Module:
        ensemble.to(self._accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._clean.estimate_batch_norm(ensemble)
        return ensemble

    def _ask_about_all(self, ensemble: nn.Module) -> Tensor:
        size = TEACHER_BATCH[self._accelerator.device.type]
        with self._accelerator.autocast():
            return torch.cat([mirrored_logits(ensemble, batch) for batch in self._clean.batches(size)])


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
        origin: Who teaches, and rows. What is there of another origin is refused: half a run would be taught
            something else than the other half.
        ask: Makes the logits of all rows, (N, num_classes).

    Raises:
        ValueError: The folder holds what others said, or about other rows.
    """
    path = folder / TEACHER_LOGITS
    if path.exists():
        known = torch.load(path, map_location="cpu", weights_only=True)
        check_origin(path, known["origin"], origin)
        logits: Tensor = known["logits"]
        return logits
    logits = ask().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{TEACHER_LOGITS}.partial"
    torch.save({"origin": dict(origin), "logits": logits}, partial)
    os.replace(partial, path)
    return logits


def check_origin(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse what was made from something else.

    Raises:
        ValueError: An entry differs; the message names it.
    """
    other = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if other:
        raise ValueError(
            f"{path} was made with another {', another '.join(other)}; remove it or choose another folder"
        )


def _check_classes(ensemble: TeacherEnsemble, clean: CleanRows) -> None:
    ensemble.eval()
    image = torch.zeros(1, *clean.rows.images.shape[1:])
    wanted, found = len(clean.rows.classes), [len(last_logits(one, image)[0]) for one in ensemble.members]
    if set(found) != {wanted}:
        raise ValueError(f"the rows have {wanted} classes, who teaches has {' and '.join(map(str, found))}")
