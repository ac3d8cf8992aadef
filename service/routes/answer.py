"""From a request with images to the engine's answers: what all routes that classify share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import Request

from model_store.policy import Plan
from service.deadlines import in_time
from service.engine.admission import NoPermit
from service.engine.engine import Engine
from service.engine.health import Unwell
from service.engine.loaded import LoadedModel
from service.engine.submission import Submission
from service.engine.ticket import Expired, Outcome, Prediction
from service.errors import DeadlineExceeded, NotReady, Overloaded, ServiceError
from service.failures import ClientLeft as ClientLeft
from service.family import Choice
from service.headers import Budget, RequestHeaders, parse_headers
from service.observe import TRACE
from service.registry import Registry
from service.routes.answered import Answered
from service.routes.billing import Told, most_flops, paid, undone_if_unanswered
from service.routes.bodies import Asked, Decoded, Source, image_files
from service.routes.traces import trace_answered, trace_decoded
from service.state import Service, service_of

if TYPE_CHECKING:
    from service.tracing import RequestTrace


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, in whichever process its request was read.

    Attributes:
        service: That is asked.
        headers: Of the request.
        started_s: When it came, monotonic seconds: the same clock in all processes.
        left: Called once the images are there; what it returns is done when nobody waits any more.
        trace: Of the request, if it is traced.
    """

    service: Service
    headers: RequestHeaders
    started_s: float
    left: Callable[[], Awaitable[object]]
    trace: RequestTrace | None = None


async def answer(
    request: Request,
    source: Source = image_files,
    passing: Callable[[LoadedModel, Prediction], None] | None = None,
) -> Answered:
    """Have the images of ``request`` classified as it asks, charge the client and observe.

    Args:
        request: Its headers are parsed, its body is read.
        source: Where the route's protocol puts model, budget and images.
        passing: Called with what each exit before the last one says, for who wants to see that.

    Raises:
        ServiceError: The request as a whole cannot be answered.
        ClientLeft: Nobody waits any more.
    """
    started_s = time.monotonic()
    service, headers = service_of(request), parse_headers(request.scope["headers"])
    # Once the body has been read, the next message is the client's leaving.
    caller = Caller(service, headers, started_s, request.receive, request.scope.get(TRACE))
    return await classified(caller, lambda: source(request, headers, service), passing)


async def classified(
    caller: Caller,
    source: Callable[[], Awaitable[Asked]],
    passing: Callable[[LoadedModel, Prediction], None] | None = None,
) -> Answered:
    """The same for a request that need not be one of this process.

    Args:
        caller: Who asks.
        source: Finds out what is asked for; whatever it or its images raise is raised here.
        passing: As for ``answer``.

    Raises:
        ServiceError: The request as a whole cannot be answered.
        ClientLeft: Nobody waits any more.
    """
    service, headers, started_s, trace = caller.service, caller.headers, caller.started_s, caller.trace
    client = service.authenticate(headers.api_key)
    registry, engine = service.loaded()
    try:
        with engine.admit(patient=headers.budget.deadline_ms is None) as permit:
            asked = await source()
            budget = asked.budget
            choice = _choice(registry, engine, asked, streams=passing is not None)
            model, plan = choice.model, choice.plan
            engine.check([model])
            with undone_if_unanswered(choice) as bill:
                async with in_time(started_s, budget.deadline_ms):
                    decoded = await asked.images(model.manifest.input)
                decode_s = time.monotonic() - started_s
                trace_decoded(trace, choice, budget, started_s, len(decoded))
                told = Told(passing)
                until = None if budget.deadline_ms is None else in_time(started_s, budget.deadline_ms)
                async with paid(client, most_flops(plan, decoded), bill, until):
                    submit = partial(
                        engine.submit,
                        permit=permit,
                        passing=told.passing,
                        whole=asked.whole,
                        trail=None if trace is None else trace.trail,
                    )
                    try:
                        outcomes = await _outcomes(caller, submit, choice, decoded, budget)
                    except ClientLeft:
                        bill += told.flops[-1:]
                        raise
                    bill += [outcome.flops for outcome in outcomes if isinstance(outcome, Prediction)]
    except NoPermit as error:
        raise Overloaded(str(error), error.retry_after_s) from error
    except Unwell as error:
        raise NotReady(str(error), error.retry_after_s) from error
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    _observe(service, model, plan, predictions, sum(bill))
    trace_answered(trace, predictions, sum(bill))
    seconds = _seconds(predictions, decode_s, time.monotonic() - started_s)
    return Answered(model, budget, decoded, outcomes, sum(bill), seconds)


def _choice(registry: Registry, engine: Engine, asked: Asked, streams: bool) -> Choice:
    """The model and the plan for what is asked; who ``streams`` wants to hear of every exit."""
    budget = asked.budget
    return registry.resolve(
        asked.model,
        budget.mean,
        budget.limit,
        patient=not streams and engine.is_patient(budget.limit, budget.deadline_ms),
        single=asked.single,
        anytime=budget.deadline_ms is not None,
        shrunk=engine.shrunk,
    )


def _seconds(predictions: list[Prediction], decode_s: float, total_s: float) -> dict[str, float]:
    return {
        "decode": decode_s,
        "queue": max((prediction.queue_s for prediction in predictions), default=0.0),
        "compute": max((prediction.compute_s for prediction in predictions), default=0.0),
        "total": total_s,
    }


async def _outcomes(
    caller: Caller,
    submit: Callable[..., Submission],
    choice: Choice,
    decoded: Decoded,
    budget: Budget,
) -> list[Prediction | ServiceError]:
    """One entry per image sent, in order."""
    images = [image for image in decoded if not isinstance(image, ServiceError)]
    if not images:
        return [error for error in decoded if isinstance(error, ServiceError)]
    deadline_s = None if budget.deadline_ms is None else caller.started_s + budget.deadline_ms / 1000
    # A policy on trial has a default budget of its own.
    asked = (budget.mean and choice.mean, budget.limit)
    submission = submit(
        choice.model, images, choice.plan, deadline_s=deadline_s, asked=asked, degraded=choice.degraded
    )
    watch = asyncio.ensure_future(caller.left())
    watch.add_done_callback(lambda _: submission.cancel())
    try:
        answers = iter([_known(outcome, budget) for outcome in await submission.outcomes()])
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            raise ClientLeft from None
        raise
    finally:
        watch.cancel()
    outcomes = [entry if isinstance(entry, ServiceError) else next(answers) for entry in decoded]
    submission.answered([outcome for outcome in outcomes if isinstance(outcome, Prediction)])
    return outcomes


def _known(outcome: Outcome, budget: Budget) -> Prediction | ServiceError:
    """What the engine says of an image, as the client is told."""
    if isinstance(outcome, Prediction):
        return outcome
    assert isinstance(outcome, Expired), outcome
    return DeadlineExceeded(
        f"the deadline of {budget.deadline_ms:g} ms passed before the first exit answered"
    )


def _observe(
    service: Service, model: LoadedModel, plan: Plan, predictions: list[Prediction], spent: int
) -> None:
    metrics, name = service.metrics, model.name
    for prediction in predictions:
        metrics.images.labels(name, str(prediction.exit)).inc()
        metrics.image_flops.labels(name).observe(prediction.flops)
        metrics.queue_seconds.labels(name).observe(prediction.queue_s)
        if prediction.degraded:
            metrics.degraded.labels(name).inc()
    metrics.flops.labels(name, "charged").inc(spent)
    # What cannot be spent is not counted: one budget of 1T would hide what a thousand others overspend.
    metrics.budget_flops.labels(name).inc(model.allowed_flops(plan) * len(predictions))
