"""What an evaluation measured: frozen, JSON-able, and all that its figure and tables need but the images."""

from __future__ import annotations

from pydantic import BaseModel, Field

from model_store.training.report import CurvePoint


class ExitResult(BaseModel, frozen=True, extra="forbid"):
    """One exit when every row leaves there: anytime prediction."""

    exit: int = Field(ge=1, description="1-based.")
    accuracy: float = Field(ge=0, le=1)
    direct_flops: int = Field(description="FLOPs when it is the only head that runs.")
    dense_flops: int = Field(description="FLOPs when all earlier heads run too: what papers report.")
    calibration_error: float = Field(description="Expected calibration error, 15 bins.")


class BudgetResult(BaseModel, frozen=True, extra="forbid"):
    """Rows served one after the other at one mean budget."""

    budget: float = Field(description="Mean FLOPs per image that were allowed.")
    mean_flops: float = Field(description="Mean FLOPs per image that were spent.")
    accuracy: float = Field(ge=0, le=1)
    shares: tuple[float, ...] = Field(description="Share of rows that left at each of the K exits.")
    geometric_accuracy: float | None = Field(
        description="Accuracy of the first baseline at the same spent mean, None out of its range."
    )
    saturated: bool = Field(
        False, description="The budget exceeds the policy's last entry: no FLOPs are left that buy accuracy."
    )


class LimitResult(BaseModel, frozen=True, extra="forbid"):
    """Rows served under a limit alone."""

    limit: float = Field(description="FLOPs that no image may exceed.")
    exit: int = Field(ge=1, description="Where all rows leave, 1-based.")
    flops: int = Field(description="FLOPs of every image.")
    accuracy: float = Field(ge=0, le=1)


class Leaver(BaseModel, frozen=True, extra="forbid"):
    """One row and how it left."""

    row: int = Field(ge=0, description="Index among the evaluated rows.")
    exit: int = Field(ge=1, description="Where it left, 1-based.")
    confidence: float = Field(description="At that exit, in the policy's measure.")
    label: int = Field(ge=0, description="True class.")
    predicted: int = Field(ge=0, description="Class it was answered.")


class Leavers(BaseModel, frozen=True, extra="forbid"):
    """Who leaves first and who leaves last at one mean budget."""

    budget: float = Field(description="Mean FLOPs per image that were allowed.")
    first: tuple[Leaver, ...] = Field(
        min_length=1, description="Rows surest at the earliest exit where any row left, surest first."
    )
    last: tuple[Leaver, ...] = Field(
        min_length=1, description="Rows least sure at the deepest exit where any row left, least sure first."
    )


class Evaluation(BaseModel, frozen=True, extra="forbid"):
    """Everything that was measured on one set of rows. Accuracies are shares, FLOPs are per image."""

    model: str = Field("", description="Artifact, name@version; empty where it is not one.")
    rows: str = Field(description="Rows it was measured on.")
    count: int = Field(description="Number of rows.")
    policy: str = Field(description="Id of the policy.")
    exits: tuple[ExitResult, ...]
    budgets: tuple[BudgetResult, ...]
    limits: tuple[LimitResult, ...]
    geometric: tuple[tuple[CurvePoint, ...], ...] = Field(
        description="Curve of each baseline on these rows, with its thresholds from calibration."
    )
    leavers: Leavers | None = Field(
        None, description="At a budget in the middle; None where every budget consults one exit."
    )
