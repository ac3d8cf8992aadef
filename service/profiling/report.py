"""All that ``exitramp profile`` has measured."""

from __future__ import annotations

from pydantic import BaseModel, Field, computed_field

from service.profiling.account import Line, Observed, Throughput, budget_of
from service.profiling.parts import Part
from service.profiling.span_times import SpanTimes


class Profile(BaseModel, frozen=True):
    """Parts alone, and the service under load."""

    times: SpanTimes = Field(description="Launches by span and batch size: model, device and machine, too.")
    cores: int
    parts: list[Part] = Field(description="Each alone.")
    idle: list[Observed] = Field(description="Closed loops against the service without its network.")
    served: list[Observed] = Field(description="Closed loops against the service.")
    throughput: dict[str, Throughput] = Field(description="Of the larger loops, by name.")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def budgets(self) -> list[list[Line]]:
        """Of each of ``served``: where the time of a request went."""
        alone = {part.name: part for part in self.parts}
        return [budget_of(run, alone["header checks"], alone["JSON"]) for run in self.served]
