"""What became of a request's images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.engine.loaded import LoadedModel
from service.engine.ticket import Prediction
from service.errors import ServiceError
from service.headers import Budget
from service.rendering import ModelCard, spent_headers, summary
from service.routes.bodies import Decoded


@dataclass(frozen=True)
class Answered:
    """What became of a request's images.

    Attributes:
        model: That answered.
        budget: As the request gave it.
        decoded: Pixels or error of each image sent.
        outcomes: Prediction or error of each image sent.
        flops: Charged for all.
        seconds: Time to decode, longest queue and compute time, and total, by name.
    """

    model: LoadedModel
    budget: Budget
    decoded: Decoded
    outcomes: list[Prediction | ServiceError]
    flops: int
    seconds: dict[str, float]

    @property
    def only(self) -> Prediction:
        """The prediction of a single image.

        Raises:
            ServiceError: The image has none.
        """
        (outcome,) = self.outcomes
        if isinstance(outcome, Prediction):
            return outcome
        raise outcome

    @property
    def card(self) -> ModelCard:
        """What the answer says of the model."""
        return card_of(self.model)

    def summary(self) -> dict[str, Any]:
        """All of the answer but its predictions."""
        return summary(self.card, self.budget, self.flops, self.seconds)

    def headers(self) -> dict[str, str]:
        """``X-FLOPs``, ``Server-Timing`` and, for a single image, ``X-Exit``.

        Raises:
            ServiceError: That of a single image.
        """
        return spent_headers(self.flops, self.seconds, [self.only.exit] if len(self.outcomes) == 1 else [])


def card_of(model: LoadedModel) -> ModelCard:
    """What answers say of ``model``."""
    manifest = model.manifest
    return ModelCard(
        model.name, manifest.version, model.policy.id, manifest.task, manifest.classes, len(model.stages)
    )
