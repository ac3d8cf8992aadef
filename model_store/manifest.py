"""The manifest: everything that is known of an artifact besides its weights, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from model_store.flops import StageFlops, direct_flops
from model_store.policy import Policy
from model_store.preprocess import InputSpec

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
"""Name of a model or task: lower case, safe as a folder and as a metric label."""


class ExitSpec(BaseModel, frozen=True, extra="forbid"):
    """One exit of a staged network, in depth order."""

    block_flops: int = Field(gt=0, description="Multiply-adds of this block for one image.")
    head_flops: int = Field(ge=0, description="Multiply-adds of this exit's head for one image.")
    accuracy: float = Field(
        ge=0, le=1, description="Share of the budget-check rows that this exit answers correctly."
    )
    test_accuracy: float | None = Field(
        None, ge=0, le=1, description="The same on the test rows, once published."
    )


class Provenance(BaseModel, frozen=True, extra="forbid"):
    """Where an artifact comes from, enough to make it again."""

    command: str = Field(description="Command line that made it.")
    recipe: Mapping[str, Any] = Field(description="Every field of the training recipe.")
    start_sha256: str | None = Field(None, description="Of the encoded weights that training started from.")
    teacher_sha256: str | None = Field(None, description="Of the encoded weights of the recipe's teacher.")
    seed: int
    hardware: str = Field(description="Processor and number of cores, or accelerator.")
    duration_s: float = Field(ge=0, description="Training time, seconds.")
    created: str = Field(description="UTC, ISO 8601.")
    libraries: Mapping[str, str] = Field(description="Versions that matter for the result.")
    rows: Mapping[str, str] = Field(
        description="Rows used: train, calibration, budget_check and, once, test."
    )


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """Contents of ``manifest.json``."""

    format: Literal[1] = 1
    name: Name
    version: int = Field(ge=1)
    network: str = Field(description="Entry of the network registry.")
    arguments: Mapping[str, Any] = Field(description="Keyword arguments that build the network.")
    input: InputSpec
    task: Name = Field(description="Models of one task share a class list and can stand in for each other.")
    classes: tuple[str, ...] = Field(min_length=1, description="Class names in index order.")
    exits: tuple[ExitSpec, ...] = Field(min_length=1)
    policy: Policy
    provenance: Provenance
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of the bytes of model.safetensors.")

    @model_validator(mode="after")
    def _exits_of_the_policy_exist(self) -> Self:
        deepest = max(segment.exits[-1] for segment in self.policy.segments)
        if deepest > len(self.exits):
            raise ValueError(f"the policy consults exit {deepest}, but there are {len(self.exits)} exits")
        temperatures = self.policy.temperatures
        if temperatures is not None and len(temperatures) != len(self.exits):
            raise ValueError(f"{len(temperatures)} temperatures for {len(self.exits)} exits")
        return self

    @model_validator(mode="after")
    def _default_budget_pays_for_an_exit(self) -> Self:
        default, cheapest = self.policy.default_flops, min(direct_flops(self.stages))
        if default < cheapest:  # else every request without a budget would fail
            raise ValueError(
                f"default_flops of {default:g} are below the cheapest exit, which costs {cheapest} FLOPs"
            )
        return self

    @property
    def stages(self) -> tuple[StageFlops, ...]:
        """FLOPs of each stage, block and head apart."""
        return tuple(StageFlops(spec.block_flops, spec.head_flops) for spec in self.exits)
