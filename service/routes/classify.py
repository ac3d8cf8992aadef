"""``POST /classify``: images under a FLOP budget."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from service.engine.loaded import LoadedModel
from service.engine.ticket import Prediction
from service.errors import ServiceError
from service.routes.answer import Answered, answer, spent_headers
from service.routes.documents import CLASSIFY

router = APIRouter(tags=["classification"])


@router.post("/classify", **CLASSIFY)
async def classify(request: Request) -> Response:
    """Classify one image (raw body) or 1 to 64 (multipart parts named ``image``).

    The mean of the FLOPs spent per image is held at ``X-FLOP-Budget``, no image spends more than
    ``X-FLOP-Limit``, and the answer comes within ``X-Deadline-Ms``. One FLOP is one multiply-add.
    """
    answered = await answer(request)
    headers = spent_headers(answered)  # first: the error of a single image is the whole answer
    predictions = [entry(answered.model, outcome) for outcome in answered.outcomes]
    body = {**summary(answered), "predictions": predictions}
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)


def summary(answered: Answered) -> dict[str, Any]:
    """All of an answer but its predictions; the shape of ``schemas.ClassifyBody``."""
    model, budget = answered.model, answered.budget
    return {
        "model": model.name,
        "version": model.manifest.version,
        "policy": model.policy.id,
        "task": model.manifest.task,
        "budget": {
            "mean": plain_number(budget.mean),
            "limit": plain_number(budget.limit),
            "deadline_ms": plain_number(budget.deadline_ms),
        },
        "flops": answered.flops,
        "timing_ms": {name: round(value * 1000, 3) for name, value in answered.seconds.items()},
    }


def entry(model: LoadedModel, outcome: Prediction | ServiceError) -> dict[str, Any]:
    """One element of ``predictions``; the shape of ``schemas.PredictionBody`` or ``FailedImage``."""
    if not isinstance(outcome, Prediction):
        return {"error": {"code": outcome.code, "detail": outcome.detail}}
    labels = model.manifest.classes
    top = [
        {"label": labels[index], "index": index, "probability": probability}
        for index, probability in zip(outcome.classes, outcome.probabilities, strict=True)
    ]
    return {
        **top[0],
        "top": top,
        "exit": outcome.exit,
        "exits": len(model.stages),
        "flops": outcome.flops,
        "degraded": outcome.degraded,
    }


def plain_number(value: float | None) -> float | int | None:
    """A whole number without its fraction, as it was sent."""
    return int(value) if value is not None and value.is_integer() else value
