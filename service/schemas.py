"""What goes over the wire, as pydantic models: the OpenAPI document is made from them.

Answers of ``/classify`` are built as plain dictionaries of the same shape, because validation would cost
more than the rest of the route; a test holds the two together.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """An error, RFC 9457 ``application/problem+json``."""

    type: str = Field(description="urn:exitramp:error: and the code.")
    title: str
    status: int
    detail: str = Field(description="Names the value and the limit.")
    code: str = Field(description="Stable name of the error.")
    request_id: str | None = None


class ProtocolError(BaseModel):
    """An error of the Open Inference Protocol: everything below ``/v2`` that is not a success."""

    error: str = Field(description="Names the value and the limit.")
    code: str = Field(description="Stable name of the error, as everywhere in this service.")


class TopClass(BaseModel):
    """One of the most probable classes."""

    label: str
    index: int
    probability: float


class PredictionBody(BaseModel):
    """Answer for one image."""

    label: str
    index: int
    probability: float
    top: list[TopClass] = Field(description="The five most probable classes, all if there are fewer.")
    exit: int = Field(description="The exit that answered, 1-based.")
    exits: int = Field(description="Exits of the network.")
    flops: int = Field(description="Multiply-adds charged.")
    degraded: bool = Field(description="Whether load made the answer cheaper than asked.")


class ImageError(BaseModel):
    """Why one image of several has no answer."""

    code: str
    detail: str


class FailedImage(BaseModel):
    """An entry in place of a prediction."""

    error: ImageError


class BudgetBody(BaseModel):
    """The budget as understood."""

    mean: float | None
    limit: float | None
    deadline_ms: float | None


class Timing(BaseModel):
    """Where the time went, milliseconds; queue and compute are the slowest image's."""

    decode: float
    queue: float
    compute: float
    total: float


class ClassifyBody(BaseModel):
    """Answer of ``POST /classify``."""

    model: str
    version: int
    policy: str = Field(description="Id of the exit policy that decided.")
    task: str
    budget: BudgetBody
    predictions: list[PredictionBody | FailedImage]
    flops: int = Field(description="Sum over the images.")
    timing_ms: Timing


class ExitBody(BaseModel):
    """One exit of a model."""

    exit: int = Field(description="1-based.")
    flops: int = Field(description="FLOPs when no earlier head runs: what a limit must allow.")
    dense_flops: int = Field(description="FLOPs when all earlier heads run: the figure of papers.")
    accuracy: float = Field(description="On held-out training rows.")
    test_accuracy: float | None = Field(description="On the test rows, where published.")


class CurvePoint(BaseModel):
    """A point of the budget-accuracy curve."""

    mean_flops: float
    accuracy: float


class ModelBody(BaseModel):
    """A loaded model."""

    name: str
    version: int
    task: str
    classes: list[str]
    input: dict[str, Any]
    device: str
    policy: str
    default_budget: float = Field(description="Mean FLOPs per image of requests without a budget.")
    exits: list[ExitBody]
    curve: list[CurvePoint]
    provenance: dict[str, Any]


class ModelsBody(BaseModel):
    """All loaded models."""

    models: list[ModelBody]
