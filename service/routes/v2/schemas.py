"""What the protocol's routes answer, as types: mypy holds the routes to them, and they are documented."""

from __future__ import annotations

from typing import (
    Any,
    Literal,
    NotRequired,  # pydantic needs these before Python 3.12
)

from typing_extensions import TypedDict


class Live(TypedDict):
    """The process is up."""

    live: bool


class Ready(TypedDict):
    """The server can be asked."""

    ready: bool


class ModelReady(Ready):
    """A model can be asked."""

    name: str


class ServerMetadata(TypedDict):
    """Who this is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(TypedDict):
    """A tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """A model, or the models of a task, which has no versions."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(TypedDict):
    """A tensor in Triton's words, without the dimension for the images."""

    name: str
    data_type: str
    dims: list[int]
    format: NotRequired[str]


class DynamicBatching(TypedDict):
    """How batches are formed."""

    preferred_batch_size: list[int]
    max_queue_delay_microseconds: int


class Parameter(TypedDict):
    """What Triton has no word for."""

    string_value: str


class ModelConfig(TypedDict):
    """Triton's model configuration."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, Any]
    max_batch_size: int
    input: list[TensorConfig]
    output: list[TensorConfig]
    dynamic_batching: DynamicBatching
    parameters: dict[str, Parameter]


class Duration(TypedDict):
    """How often, and how long all together."""

    count: int
    ns: int


class ComputedParts(TypedDict):
    """What a launch takes."""

    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class InferenceStatistics(ComputedParts):
    """Over all images since the version was loaded."""

    success: Duration
    fail: Duration
    queue: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(ComputedParts):
    """Launches of one size."""

    batch_size: int


class ModelStatistics(TypedDict):
    """Of one version of a model."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class Statistics(TypedDict):
    """Of the versions asked for."""

    model_stats: list[ModelStatistics]


class Listed(TypedDict):
    """A version of a model in the store."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class Loaded(TypedDict):
    """What was loaded."""

    name: str
    version: str
    load: bool


class Unloaded(TypedDict):
    """What was taken away."""

    name: str
    unload: bool


class Output(TypedDict):
    """A tensor of an answer; its data are here or behind the JSON."""

    name: str
    datatype: Literal["FP32", "BYTES", "INT32", "INT64"]
    shape: list[int]
    data: NotRequired[list[float | str]]
    parameters: NotRequired[dict[str, int]]


class Inferred(TypedDict):
    """The answer to an inference request; it is written without looking at this."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    parameters: dict[str, Any]
    outputs: list[Output]
