"""All that is measured of one machine, in one file."""

from __future__ import annotations

from pydantic import BaseModel

from service.profiling.span_times import SpanTimes
from service.simulation.costs import Costs


class Measured(BaseModel, frozen=True, extra="forbid"):
    """Launches, and what is around them."""

    times: SpanTimes
    costs: Costs
