"""How many replicas there are and what each needs: the arguments of ``deploy.ray.app.build``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

AUTOSCALING = {
    "min_replicas",
    "max_replicas",
    "target_ongoing_requests",
    "upscale_delay_s",
    "downscale_delay_s",
}
"""Fields of ``Scale`` that are Serve's own."""


class Scale(BaseModel):
    """Each field is an argument of ``serve run``, or one under ``args`` in the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(1, ge=1, description="Replicas without load.")
    max_replicas: int = Field(1, ge=1, description="Replicas under load. The same: no autoscaling.")
    target_ongoing_requests: float = Field(
        8,
        gt=0,
        description="Requests under way per replica that autoscaling aims at. Lowering it adds replicas "
        "earlier; raising it fills batches.",
    )
    upscale_delay_s: float = Field(10, ge=0, description="How long there must be too few replicas, seconds.")
    downscale_delay_s: float = Field(120, ge=0, description="How long there must be too many, seconds.")
    cpus: float = Field(
        1,
        ge=0,
        description="Processor cores of a replica: Ray places it by them, and there are as many threads "
        "per launch unless EXITRAMP_THREADS says otherwise.",
    )
    gpus: float = Field(0, ge=0, description="GPUs of a replica. With 0.5 two share one and its memory.")
    own_cores: bool = Field(
        False,
        description="Keep each replica to cores that no other has. Steadier where several share a machine; "
        "what it does not use is nobody's.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Scale:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        if self.own_cores and (self.cpus < 1 or self.cpus % 1):
            raise ValueError(f"own_cores needs a whole number of cpus, not {self.cpus:g}")
        return self
