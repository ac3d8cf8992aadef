"""What a request's trace says of budget, model and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.engine.ticket import Prediction
from service.family import Choice
from service.headers import Budget

if TYPE_CHECKING:
    from service.tracing import RequestTrace


def trace_decoded(
    trace: RequestTrace | None, choice: Choice, budget: Budget, started_s: float, images: int
) -> None:
    """Enter that ``images`` are pixels now, and what is going to happen to them.

    Args:
        trace: Of the request, if it is traced.
        choice: Who answers, and how.
        budget: As the request gave it.
        started_s: When the route began, monotonic seconds.
        images: How many were sent.
    """
    if trace is None:
        return
    trace.decoded(started_s, images)
    model = choice.model
    trace.note(model=model.name, version=model.manifest.version, policy=model.policy.id, images=images)
    trace.note(budget_flops=budget.mean, limit_flops=budget.limit, deadline_ms=budget.deadline_ms)
    trace.note(allowed_flops=choice.plan.allowed, degraded=choice.degraded)


def trace_answered(trace: RequestTrace | None, predictions: list[Prediction], flops: int) -> None:
    """Enter what became of the images and the ``flops`` that were charged for them."""
    if trace is None:
        return
    trace.note(flops=flops, answered=len(predictions))
    if predictions:
        trace.note(exit=max(prediction.exit for prediction in predictions))
