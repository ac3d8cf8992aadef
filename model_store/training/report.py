"""What calibration found, for people and for the artifact's report: frozen and JSON-able."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from model_store.exits import Confidence
from model_store.training.scores import Scores

BINS = 15
"""Equal bins of confidence in the expected calibration error, as Guo et al. 2017."""


Ensemble = Literal["none", "probabilities", "logits", "scaled", "deeper"]
"""How the answers of the consulted exits so far are joined.

none: they are not, the last one answers.
probabilities: the mean of their softmax probabilities.
logits: the softmax of their mean logits.
scaled: the mean of their probabilities after temperature scaling.
deeper: as probabilities, each exit with twice the weight of the one before.
"""

ENSEMBLES: tuple[Ensemble, ...] = get_args(Ensemble)


class CurvePoint(BaseModel, frozen=True, extra="forbid"):
    """One point of an accuracy-FLOPs curve."""

    mean_flops: float = Field(gt=0, description="Mean FLOPs per image.")
    accuracy: float = Field(ge=0, le=1, description="Share of rows answered correctly.")


class BaselinePoint(CurvePoint, frozen=True, extra="forbid"):
    """One point of the geometric family."""

    thresholds: tuple[float, ...] = Field(description="One per consulted exit but the last.")


class ComparedPoint(BaseModel, frozen=True, extra="forbid"):
    """Our thresholds and the baseline's on the same rows at the same mean."""

    mean_flops: float = Field(gt=0, description="Mean FLOPs per image of both.")
    ours: float = Field(description="Accuracy.")
    theirs: float = Field(description="Accuracy of the geometric family.")
    standard_error: float = Field(description="Of ours minus theirs, paired by row.")


class Baseline(BaseModel, frozen=True, extra="forbid"):
    """The geometric family of the MSDNet code on one set of exits, beside our policy."""

    name: str = Field(description="Which variant of the family.")
    exits: tuple[int, ...] = Field(description="Consulted exits, 1-based.")
    costs: tuple[int, ...] = Field(description="FLOPs of leaving at each of them.")
    measure: Confidence = Field(description="Measure that its thresholds are in.")
    curve: tuple[BaselinePoint, ...] = Field(description="The family's own points on the budget-check rows.")
    compared: tuple[ComparedPoint, ...] = Field(
        description="Both at the same means, over the family's range."
    )


class MeasureResult(BaseModel, frozen=True, extra="forbid"):
    """How well one confidence measure ranks."""

    measure: Confidence = Field(description="Measure, see ``exits.Confidence``.")
    exits: tuple[int, ...] = Field(description="Its best single set of exits, 1-based.")
    accuracy: float = Field(description="Cross-fitted accuracy of that set, averaged over the budgets.")
    behind: float = Field(description="Accuracy behind the best measure.")
    standard_error: float = Field(description="Of that difference, paired by row.")


class EnsembleResult(BaseModel, frozen=True, extra="forbid"):
    """What answering with the exits so far, instead of the last one, would gain."""

    ensemble: Ensemble = Field(description="How answers are joined.")
    exits: tuple[int, ...] = Field(description="Consulted exits, 1-based.")
    accuracy: float = Field(description="Cross-fitted accuracy, averaged over the budgets.")
    gain: float = Field(description="Accuracy ahead of each exit's own answer.")
    standard_error: float = Field(description="Of that difference, paired by row.")


class CalibrationReport(BaseModel, frozen=True, extra="forbid"):
    """How a policy came about and how good it is. Accuracies are shares, FLOPs are per image."""

    calibration_rows: str = Field(description="Rows that thresholds are fitted to.")
    check_rows: str = Field(description="Rows that accuracies are measured on.")
    measures: tuple[MeasureResult, ...] = Field(description="Comparison of the confidence measures.")
    measure: Confidence = Field(description="The measure chosen.")
    ensembles: tuple[EnsembleResult, ...] = Field(
        (), description="Comparison of running ensembles along the longest set; serving uses none."
    )
    sets: tuple[tuple[int, ...], ...] = Field(description="Consulted exits of each segment, 1-based.")
    starts: tuple[float, ...] = Field(description="Mean FLOPs from which each set is used.")
    cross_fitted_accuracy: float = Field(description="Of these sets, averaged over the budgets.")
    envelope_loss: float = Field(
        description="Accuracy behind the honest envelope over all sets; negative if ahead."
    )
    optimistic_envelope_loss: float = Field(
        description="The same against the best of all sets picked in hindsight."
    )
    all_exits_loss: float = Field(
        description="Accuracy that consulting all exits would lose against these sets."
    )
    curve: tuple[CurvePoint, ...] = Field(description="The policy's entries on the budget-check rows.")
    baselines: tuple[Baseline, ...] = Field(description="The geometric family.")
    exit_accuracies: tuple[float, ...] = Field(description="Accuracy of each exit on the budget-check rows.")
    calibration_errors: tuple[float, ...] = Field(
        description="Expected calibration error of each exit, same rows, as served."
    )
    unscaled_calibration_errors: tuple[float, ...] = Field(
        (), description="The same at temperature 1, whether or not that is what is served."
    )
    scaled_calibration_errors: tuple[float, ...] = Field(
        (), description="The same at the temperatures fitted to the calibration rows."
    )
    temperatures: tuple[float, ...] = Field((), description="These temperatures.")


def calibration_errors(scores: Scores, temperatures: Sequence[float] | None = None) -> tuple[float, ...]:
    """Expected calibration error of the largest softmax probability, per exit, in units of accuracy.

    Args:
        scores: Labelled rows.
        temperatures: Of all exits of the network.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2, with 15 bins.
    """
    errors = []
    for confidence, correct in zip(
        scores.confidence("probability", temperatures), scores.correct, strict=True
    ):
        which = np.minimum((confidence * BINS).astype(int), BINS - 1)
        gaps = np.bincount(which, weights=confidence - correct, minlength=BINS)
        errors.append(float(np.abs(gaps).sum() / len(scores)))
    return tuple(errors)


def standard_error(differences: NDArray[np.floating[Any]]) -> float:
    """Of the mean of ``differences`` (N,)."""
    return float(differences.std(dtype=np.float64) / np.sqrt(len(differences)))
