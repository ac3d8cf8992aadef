"""``POST /classify``: images under a FLOP budget."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from service.documents.classification import CLASSIFY
from service.rendering import entry
from service.routes.answer import answer

router = APIRouter(tags=["classification"])


@router.post("/classify", **CLASSIFY)
async def classify(request: Request) -> Response:
    """Classify images under a FLOP budget.

    One image as the body, or 1 to 64 as multipart parts named ``image``. The mean of the FLOPs spent per
    image is held at ``X-FLOP-Budget``, no image spends more than ``X-FLOP-Limit``, and the answer comes
    within ``X-Deadline-Ms``. One FLOP is one multiply-add.
    """
    answered = await answer(request)
    headers = answered.headers()  # first: the error of a single image is the whole answer
    card = answered.card
    predictions = [entry(card, outcome) for outcome in answered.outcomes]
    body = {**answered.summary(), "predictions": predictions}
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)
