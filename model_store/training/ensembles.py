"""Running ensembles of the consulted exits, compared with the exits' own answers.

An ensemble costs no FLOPs, but every ticket would carry probabilities from exit to exit. The comparison is
cross-fitted as the one of the measures; it decides nothing and is kept in the report.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model_store.flops import StageFlops
from model_store.training.report import ENSEMBLES, Ensemble, EnsembleResult, standard_error
from model_store.training.scores import Floats, Scores
from model_store.training.selection import Rows32, at_budgets, prices_for
from model_store.training.stopping import Answers, Stopping, apply
from model_store.training.table import densify
from model_store.training.temperature import fit_temperatures


def compare_ensembles(
    calibration: Scores, check: Scores, stages: Sequence[StageFlops], exits: Sequence[int], budgets: Floats
) -> tuple[EnsembleResult, ...]:
    """Judge every kind of ensemble along one path of exits.

    Args:
        calibration: All exits on one half of the held-out rows.
        check: All exits on the other half.
        stages: FLOPs of each stage.
        exits: The consulted exits, 0-based, the first of them affordable at every budget.
        budgets: Mean FLOPs to average over, where the curve rises.
    """
    found = {
        kind: _cross_fitted(calibration, check, stages, exits, budgets, kind).mean(axis=0, dtype=np.float64)
        for kind in ENSEMBLES
    }
    return tuple(
        EnsembleResult(
            ensemble=kind,
            exits=tuple(k + 1 for k in exits),
            accuracy=float(rows.mean()),
            gain=float((rows - found["none"]).mean()),
            standard_error=standard_error(rows - found["none"]),
        )
        for kind, rows in found.items()
    )


def running(logits: Tensor, temperatures: Sequence[float], kind: Ensemble) -> Tensor:
    """Probabilities of the ensemble of the exits so far, float32 (M, N, num_classes).

    Args:
        logits: float32 (M, N, num_classes), of the consulted exits.
        temperatures: Of these exits.
        kind: See ``report.Ensemble``.
    """
    count = torch.arange(1, len(logits) + 1)[:, None, None]
    if kind == "logits":
        return (logits.cumsum(dim=0) / count).softmax(dim=2)
    if kind == "scaled":
        logits = logits / torch.tensor(temperatures, dtype=logits.dtype)[:, None, None]
    probabilities = logits.softmax(dim=2)
    if kind == "none":
        return probabilities
    weights = 2.0**count if kind == "deeper" else torch.ones_like(count)
    return (weights * probabilities).cumsum(dim=0) / weights.cumsum(dim=0)


def _cross_fitted(
    calibration: Scores,
    check: Scores,
    stages: Sequence[StageFlops],
    exits: Sequence[int],
    budgets: Floats,
    kind: Ensemble,
) -> Rows32:
    """Answers at the budgets, float32 (G, N): thresholds of each half judged on the other."""
    parts = []
    for fitted, judged in ((check, calibration), (calibration, check)):
        temperatures = [fit_temperatures(fitted)[k] for k in exits]
        here, there = (_answers(scores, exits, temperatures, kind) for scores in (fitted, judged))
        thresholds = Stopping(here, stages, prices_for(stages)).thresholds(exits)
        table = densify(here, exits, thresholds, step=0.02)
        spent = [apply(answers, exits, table, stages) for answers in (here, there)]
        mean = np.average([one.mean_flops for one in spent], axis=0, weights=[len(here), len(there)])
        parts.append(at_budgets(mean, spent[1], budgets))
    return np.concatenate(parts, axis=1)


def _answers(scores: Scores, exits: Sequence[int], temperatures: Sequence[float], kind: Ensemble) -> Answers:
    """Largest probability of the ensemble and whether it is right; exits that are not consulted stay 0."""
    best = running(scores.logits[list(exits)], temperatures, kind).max(dim=2)
    confidence = np.zeros(scores.correct.shape)
    confidence[list(exits)] = best.values.double().numpy().clip(0, 1)
    correct = np.zeros(scores.correct.shape, dtype=bool)
    correct[list(exits)] = (best.indices == scores.labels).numpy()
    return Answers(confidence, correct)
