"""Logits of exits on labelled rows: what calibration and evaluation know of a network.

A runner executes one span for one batch. The eager runner here is the reference; the service's executors
satisfy the same protocol, so that what is calibrated or evaluated can be the very program that serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_store.exits import Confidence, confidence, scaled
from model_store.nets.staged import Features, Span, SpanProgram, StagedNet, fold_batch_norm
from model_store.policy import path_spans
from model_store.training.data import Rows, batches

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

BATCH = 250
"""Images per launch, unless something else is wanted."""

OnRows = Callable[[int, int], None]
"""Told the rows done and the rows in all after every batch."""


class SpanRunner(Protocol):
    """Something that executes spans of one network."""

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """Run one span for one batch.

        Args:
            span: Blocks to run and head to read.
            features: What the span before returned; for a span that starts at block 0 a one-tuple of images,
                uint8 (B, 3, H, W).

        Returns:
            The features for the next span, and the logits, float32 (B, num_classes), on the CPU.
        """
        ...


class EagerRunner:
    """The reference: the network in float32, BatchNorms folded, operator by operator."""

    def __init__(self, net: StagedNet, mean: Sequence[float], std: Sequence[float]) -> None:
        """Copy and fold ``net``; ``mean`` and ``std`` per channel in units of 0..1."""
        self._net = fold_batch_norm(net).requires_grad_(False)
        self._mean, self._std = tuple(mean), tuple(std)
        self._device = next(self._net.parameters()).device
        self._programs: dict[Span, SpanProgram] = {}

    @torch.inference_mode()
    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        """Run one span, as ``SpanRunner`` says.

        Raises:
            IndexError: ``span`` is not a span of the network.
        """
        if span not in self._programs:
            program = SpanProgram(self._net, span, self._mean, self._std)
            self._programs[span] = program.to(self._device)
        logits, *rest = self._programs[span](*(part.to(self._device) for part in features))
        return tuple(rest), logits.float().cpu()


@dataclass(frozen=True, eq=False)
class Scores:
    """Logits of some exits on labelled rows.

    Attributes:
        logits: float32 (K, N, num_classes).
        labels: int64 (N,).
        source: Where the rows come from, for provenance.
        exits: The K exits that ``logits`` holds, 0-based, in depth order.
    """

    logits: Tensor
    labels: Tensor
    source: str
    exits: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse shapes that do not belong together.

        Raises:
            ValueError: ``logits``, ``labels`` and ``exits`` disagree about K or N.
        """
        if self.logits.shape[:2] != (len(self.exits), len(self.labels)):
            raise ValueError(
                f"logits of shape {tuple(self.logits.shape)} do not hold {len(self.exits)} exits "
                f"on {len(self.labels)} rows"
            )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @cached_property
    def predictions(self) -> Ints:
        """Class of the largest logit, (K, N)."""
        return np.asarray(self.logits.argmax(dim=2), dtype=np.int64)

    @cached_property
    def correct(self) -> Bools:
        """Whether the prediction is the label, (K, N)."""
        return np.asarray(self.predictions == self.labels.numpy())

    def confidence(self, measure: Confidence, temperatures: Sequence[float] | None = None) -> Floats:
        """Confidence of each exit on each row, (K, N): exactly the float32 values that serving compares.

        Args:
            measure: As the policy names it.
            temperatures: Of all exits of the network, as the policy stores them.
        """
        chosen = [1.0 if temperatures is None else temperatures[k] for k in self.exits]
        per_exit = [
            confidence(scaled(logits, temperature), measure)
            for logits, temperature in zip(self.logits, chosen, strict=True)
        ]
        return torch.stack(per_exit).double().numpy()

    def joined(self, other: Scores) -> Scores:
        """These rows, then those of ``other``; both must hold the same exits.

        Raises:
            ValueError: They hold different exits.
        """
        if self.exits != other.exits:
            raise ValueError(f"scores of exits {self.exits} and {other.exits} cannot be joined")
        logits = torch.cat([self.logits, other.logits], dim=1)
        labels = torch.cat([self.labels, other.labels])
        return Scores(logits, labels, f"{self.source}+{other.source}", self.exits)


def _ignore(done: int, rows: int) -> None:
    """Report nothing."""


def collect_path(
    runner: SpanRunner, exits: Sequence[int], rows: Rows, batch_size: int = BATCH, on_rows: OnRows = _ignore
) -> Scores:
    """Run all ``rows`` along a path of consulted exits, span by span as serving does; nobody leaves.

    Args:
        runner: Executes the spans.
        exits: Consulted exits, 0-based, in depth order; all K of them for calibration.
        rows: Images and labels.
        batch_size: Images per launch.
        on_rows: Called with (rows done, rows in all) after each batch.

    Returns:
        The logits of the consulted exits.

    Raises:
        ValueError: ``exits`` is empty or does not rise.
    """
    if not exits or list(exits) != sorted(set(exits)):
        raise ValueError(f"a path consults at least one exit, in depth order, got {tuple(exits)}")
    spans = path_spans(exits)
    parts: list[Tensor] = []
    done = 0
    for images, _ in batches(rows, batch_size):
        features: Features = (images,)
        logits = []
        for span in spans:
            features, read = runner.run(span, features)
            logits.append(read.float().cpu())
        parts.append(torch.stack(logits))
        done += len(images)
        on_rows(done, len(rows))
    return Scores(torch.cat(parts, dim=1), rows.labels, rows.source, tuple(exits))
