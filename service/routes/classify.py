"""``POST /classify``: images under a FLOP budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from model_store.policy import Plan
from service.engine.engine import Engine, NoPermit, Permit
from service.engine.loaded import LoadedModel
from service.engine.ticket import Expired, Outcome, Prediction
from service.errors import DeadlineExceeded, Overloaded, ServiceError
from service.headers import Budget, RequestHeaders, parse_headers
from service.keys import Client
from service.routes.bodies import Decoded, read_images
from service.routes.documents import CLASSIFY
from service.state import Service, service_of

router = APIRouter(tags=["classification"])


class ClientLeft(Exception):
    """The client closed the connection before its answer was ready."""


@router.post("/classify", **CLASSIFY)
async def classify(request: Request) -> Response:
    """Classify one image (raw body) or 1 to 64 (multipart parts named ``image``).

    The mean of the FLOPs spent per image is held at ``X-FLOP-Budget``, no image spends more than
    ``X-FLOP-Limit``, and the answer comes within ``X-Deadline-Ms``. One FLOP is one multiply-add.
    """
    started_s = time.monotonic()
    service = service_of(request)
    headers = parse_headers(request.scope["headers"])
    client = service.authenticate(headers.api_key)
    registry, engine = service.loaded()
    try:
        with engine.admit() as permit:
            budget = headers.budget
            patient = budget.deadline_ms is None
            model, plan = registry.resolve(headers.model, budget.mean, budget.limit, patient)
            decoded = await read_images(request, headers, service, model.manifest.input)
            decoded_s = time.monotonic() - started_s
            with _paid(client, _most(plan, len(decoded))) as bill:
                outcomes = await _answers(request, engine, model, decoded, plan, permit, headers, started_s)
                bill += [outcome.flops for outcome in outcomes if isinstance(outcome, Prediction)]
            return _respond(service, model, plan, budget, outcomes, decoded_s, time.monotonic() - started_s)
    except NoPermit as error:
        raise Overloaded(str(error), retry_after_s=1) from error


def _most(plan: Plan, images: int) -> float:
    """FLOPs that ``images`` images can cost at most: several under a mean budget have an exact sum."""
    exact = images > 1 and plan.budget is not None
    return images * (plan.allowed if exact else plan.costs[-1])


@contextmanager
def _paid(client: Client | None, most: float) -> Iterator[list[int]]:
    """Reserve ``most`` FLOPs from the client's quota; afterwards only what is on the bill is charged.

    Raises:
        QuotaExhausted: There is not so much left.
    """
    bill: list[int] = []
    if client is None or client.bucket is None:
        yield bill
        return
    reserved = client.bucket.reserve(most, time.monotonic())
    try:
        yield bill
    finally:
        client.bucket.settle(reserved, sum(bill), time.monotonic())


async def _answers(
    request: Request,
    engine: Engine,
    model: LoadedModel,
    decoded: Decoded,
    plan: Plan,
    permit: Permit,
    headers: RequestHeaders,
    started_s: float,
) -> list[Outcome | ServiceError]:
    """One entry per image sent, in order."""
    images = [image for image in decoded if not isinstance(image, ServiceError)]
    if not images:
        return [error for error in decoded if isinstance(error, ServiceError)]
    deadline_ms = headers.budget.deadline_ms
    deadline_s = None if deadline_ms is None else started_s + deadline_ms / 1000
    submission = engine.submit(model, images, plan, permit, deadline_s)
    # The body has been read, so the next message is the client's leaving.
    watch = asyncio.ensure_future(request.receive())
    watch.add_done_callback(lambda _: submission.cancel())
    try:
        answers = iter(await submission.outcomes())
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            raise ClientLeft from None
        raise
    finally:
        watch.cancel()
    return [entry if isinstance(entry, ServiceError) else next(answers) for entry in decoded]


def _respond(
    service: Service,
    model: LoadedModel,
    plan: Plan,
    budget: Budget,
    outcomes: list[Outcome | ServiceError],
    decode_s: float,
    total_s: float,
) -> Response:
    """Observe the answers and put them into JSON and headers."""
    if len(outcomes) == 1 and not isinstance(outcomes[0], Prediction):
        raise _service_error(outcomes[0])
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    spent = sum(prediction.flops for prediction in predictions)
    _observe(service, model, plan, predictions, spent)
    queue_s = max((prediction.queue_s for prediction in predictions), default=0.0)
    compute_s = max((prediction.compute_s for prediction in predictions), default=0.0)
    seconds = {"decode": decode_s, "queue": queue_s, "compute": compute_s, "total": total_s}
    timing = {name: round(value * 1000, 3) for name, value in seconds.items()}
    body = {
        "model": model.name,
        "version": model.manifest.version,
        "policy": model.policy.id,
        "task": model.manifest.task,
        "budget": {
            "mean": _number(budget.mean),
            "limit": _number(budget.limit),
            "deadline_ms": _number(budget.deadline_ms),
        },
        "predictions": [_entry(model, outcome) for outcome in outcomes],
        "flops": spent,
        "timing_ms": timing,
    }
    headers = {
        "X-FLOPs": str(spent),
        "Server-Timing": ", ".join(f"{name};dur={value}" for name, value in timing.items()),
    }
    if len(outcomes) == 1:
        headers["X-Exit"] = str(predictions[0].exit)
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)


def _observe(
    service: Service, model: LoadedModel, plan: Plan, predictions: list[Prediction], spent: int
) -> None:
    metrics, name = service.metrics, model.name
    for prediction in predictions:
        metrics.images.labels(name, str(prediction.exit)).inc()
        metrics.image_flops.labels(name).observe(prediction.flops)
        metrics.queue_seconds.labels(name).observe(prediction.queue_s)
    metrics.flops.labels(name, "charged").inc(spent)
    metrics.budget_flops.labels(name).inc(plan.allowed * len(predictions))


def _entry(model: LoadedModel, outcome: Outcome | ServiceError) -> dict[str, Any]:
    """One element of ``predictions``; the shape of ``schemas.PredictionBody`` or ``FailedImage``."""
    if not isinstance(outcome, Prediction):
        error = _service_error(outcome)
        return {"error": {"code": error.code, "detail": error.detail}}
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


def _service_error(outcome: Outcome | ServiceError) -> ServiceError:
    if isinstance(outcome, Expired):
        return DeadlineExceeded("the deadline passed before the first exit answered")
    assert isinstance(outcome, ServiceError), outcome
    return outcome


def _number(value: float | None) -> float | int | None:
    """A whole number without its fraction, as it was sent."""
    return int(value) if value is not None and value.is_integer() else value
