"""What the service answers, as frozen dataclasses. A FLOP is one multiply-add; exits count from 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TopClass:
    """One of the most probable classes.

    Attributes:
        label: Its name.
        index: Its position among the model's classes, 0-based.
        probability: 0..1.
    """

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """Answer for one image.

    Attributes:
        label: Name of the most probable class.
        index: Its position among the model's classes, 0-based.
        probability: 0..1.
        top: The five most probable classes, all if there are fewer.
        exit: The exit that answered, 1-based.
        exits: Exits of the network.
        flops: Multiply-adds charged.
        degraded: Whether load made the answer cheaper than asked.
    """

    label: str
    index: int
    probability: float
    top: tuple[TopClass, ...]
    exit: int
    exits: int
    flops: int
    degraded: bool


@dataclass(frozen=True)
class StreamedPrediction(Prediction):
    """What one exit says while deeper ones are still computing.

    Attributes:
        elapsed_ms: Milliseconds from the request's arrival.
    """

    elapsed_ms: float


@dataclass(frozen=True)
class FailedImage:
    """In place of a prediction: one image of several could not be used.

    Attributes:
        code: Stable name of the error, e.g. ``undecodable_image``.
        detail: What was wrong, for people.
    """

    code: str
    detail: str


@dataclass(frozen=True)
class Budget:
    """The budget as the service understood it; ``None`` where nothing was asked.

    Attributes:
        mean: Mean FLOPs per image.
        limit: FLOPs that no image exceeds.
        deadline_ms: Milliseconds from arrival to answer.
    """

    mean: float | None
    limit: float | None
    deadline_ms: float | None


@dataclass(frozen=True)
class Timing:
    """Where the time went, milliseconds; queue and compute are the slowest image's.

    Attributes:
        decode_ms: From arrival until the images were decoded.
        queue_ms: Waiting for a launch.
        compute_ms: In the network.
        total_ms: In the service.
    """

    decode_ms: float
    queue_ms: float
    compute_ms: float
    total_ms: float


@dataclass(frozen=True)
class Answer:
    """What ``classify``, ``classify_many`` and a finished ``stream`` come to.

    Attributes:
        model: Name of the model that answered.
        version: Its version.
        policy: Id of the exit policy that decided.
        task: What the model was trained for, e.g. ``cifar10``.
        budget: As understood.
        predictions: One entry per image, in the order sent; of a stream the last one that came.
        flops: Multiply-adds charged for all.
        timing: Where the time went.
        request_id: The one sent, or the service's own.
    """

    model: str
    version: int
    policy: str
    task: str
    budget: Budget
    predictions: tuple[Prediction | FailedImage, ...]
    flops: int
    timing: Timing
    request_id: str | None

    @property
    def prediction(self) -> Prediction:
        """The prediction for the only image.

        Raises:
            ValueError: There are several images, or the only one failed.
        """
        if len(self.predictions) != 1:
            raise ValueError(f"the answer is about {len(self.predictions)} images; see predictions")
        (only,) = self.predictions
        if isinstance(only, FailedImage):
            raise ValueError(f"the image has no prediction: {only.code}: {only.detail}")
        return only


@dataclass(frozen=True)
class Explanation:
    """The class-activation map of one image.

    Attributes:
        png: The image as the network saw it, enlarged, under the map.
        exit: The exit that answered, 1-based.
        index: The class whose evidence is shown, 0-based.
        flops: Multiply-adds charged.
    """

    png: bytes
    exit: int
    index: int
    flops: int


@dataclass(frozen=True)
class ModelExit:
    """One exit of a model.

    Attributes:
        exit: 1-based.
        flops: FLOPs when no earlier head runs: what a limit must allow.
        dense_flops: FLOPs when all earlier heads run: the figure of papers.
        accuracy: Share right of held-out training rows.
        test_accuracy: Share right of the test rows; ``None`` where not published.
    """

    exit: int
    flops: int
    dense_flops: int
    accuracy: float
    test_accuracy: float | None


@dataclass(frozen=True)
class CurvePoint:
    """A point of the budget-accuracy curve.

    Attributes:
        mean_flops: Mean FLOPs per image.
        accuracy: Share right of held-out training rows.
    """

    mean_flops: float
    accuracy: float


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        name: Its name.
        version: Its version.
        task: What it was trained for.
        classes: Names, by index.
        input: Size and preprocessing of its images.
        device: Where it runs.
        policy: Id of its exit policy.
        default_budget: Mean FLOPs per image of requests without a budget.
        exits: In depth order.
        curve: By rising budget.
        provenance: How it was made.
    """

    name: str
    version: int
    task: str
    classes: tuple[str, ...]
    input: Mapping[str, Any]
    device: str
    policy: str
    default_budget: float
    exits: tuple[ModelExit, ...]
    curve: tuple[CurvePoint, ...]
    provenance: Mapping[str, Any]
