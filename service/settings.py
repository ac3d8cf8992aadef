"""Settings of the service: read once from the environment, passed as an argument, frozen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, RedisDsn, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_store import EMBEDDED


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that is to be started, with ``more`` in it."""
    return {**os.environ, **more}


CACHE = Path("~/.cache/exitramp")
"""Folder of what is made once and found again."""

HOST = r"^(\*|(\*\.)?[^*/:@\s]+|\[[0-9a-fA-F:.]+\])$"
"""A name or address without a port, all names below one, or all."""


class Settings(BaseSettings):
    """Each field is an environment variable with the prefix ``EXITRAMP_``, e.g. ``EXITRAMP_PORT``."""

    model_config = SettingsConfigDict(env_prefix="EXITRAMP_", frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1", description="Address to listen on. 0.0.0.0 opens the service to the network."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on. 0 takes one that the log names.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port for /metrics and nothing else, on the same address; on the other one /metrics is "
        "404 then. Without it whoever can ask for a class can also see how busy the service is.",
    )
    http_workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes for HTTP and decoding. 1: the process that also owns the device. More pay off "
        "where one core cannot feed the device; each takes a core under load, and memory of its own.",
    )
    model_store: Path = Field(
        EMBEDDED, description="Folder of artifacts. Another one replaces the embedded models."
    )
    models: tuple[str, ...] = Field(
        ("cifar10-fusion", "cifar100-fusion"),
        min_length=1,
        description="Models to load, name or name@version; the first answers requests without X-Model. Each "
        "costs memory and start-up time.",
    )
    executor: Literal["auto", "cuda", "openvino", "torch", "null"] = Field(
        "auto",
        description="What runs the networks. auto: cuda where there is a CUDA device, else openvino. cuda: "
        "bf16 and CUDA graphs. torch is the float32 reference, on a CPU 5-7 times slower. null computes "
        "nothing and its answers mean nothing: it shows what all the rest costs.",
    )
    threads: int = Field(
        0,
        ge=0,
        description="Processor threads per launch of OpenVINO; 0: all cores but one for networks of less "
        "than 200 MFLOPs, so that decoding and HTTP go on meanwhile, and all cores for larger ones, whose "
        "launches are long. A container's share of the processor is not looked at: name it.",
    )
    precision: Literal["auto", "f32", "bf16", "int8"] = Field(
        "auto",
        description="What OpenVINO computes in. auto: bf16 where the processor has matrix units for it "
        "(AMX), else float32, which is faster there. bf16 changes an answer in 1,000. int8: models with "
        "an int8 graph (exitramp quantize) run that one, which is faster and changes 1 answer in 100 of "
        "cifar10-fusion and 6 of cifar100-fusion; those without run as auto.",
    )
    cache_dir: Path = Field(
        CACHE,
        description="Folder where OpenVINO's converted graphs are kept, so that the next start takes a "
        "second less for each model. Whoever can write there can change what is served. Where it cannot be "
        "written every start converts.",
    )
    max_batch: int = Field(
        16,
        ge=1,
        le=1024,
        description="Images per launch. Raising it adds throughput on wide devices and delay for those "
        "behind.",
    )
    max_wait_s: float = Field(
        0.001,
        ge=0,
        le=1,
        description="Longest wait of an image for company while other requests are arriving, seconds. Raising"
        " it fills batches and adds directly to latency.",
    )
    latency_objective_s: float = Field(
        0.5,
        gt=0,
        le=60,
        description="Time in which requests without a deadline should be answered, seconds: the order in the "
        "queues, and when brownout begins. Lowering it degrades answers earlier.",
    )
    brownout: bool = Field(
        True,
        description="Under load, give requests that name neither budget nor limit less of the default "
        "budget, and say so in the answer. Without it they wait, and are refused when the queue is full.",
    )
    launch_timeout_s: float = Field(
        15.0,
        gt=0,
        le=3600,
        description="Longest time of a launch, seconds: then requests get 503 until it returns, and after as "
        "long once more the process ends, to be started anew. Under several processes also how long one may "
        "be silent. Lowering it below what a compiler takes at the first use of a span ends healthy ones.",
    )
    recheck_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of early leavers that also run to the last exit, when the device is idle, to "
        "watch for drift. Raising it tells sooner and spends idle time.",
    )
    admin_key_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the key, hexadecimal, that X-Admin-Key must hold to load and unload models "
        "and to change policies. Without it nobody can.",
    )
    max_in_flight: int = Field(
        512,
        ge=1,
        description="Requests between admission and answer; more are refused with 503 at once. Raising it "
        "lengthens the queue and everybody's wait at overload.",
    )
    max_body_bytes: int = Field(
        10 * 2**20,
        ge=1024,
        description="Largest request body and image, bytes; larger ones get 413. Bounds memory per request, "
        "and the time that a hostile image can take: 50 ms for each MiB.",
    )
    inline_decode_bytes: int = Field(
        8192,
        ge=0,
        description="Bodies up to this size are decoded on the event loop, where a thread hop would cost more"
        " than the work. Raising it lets big images stall other requests.",
    )
    decode_threads: int = Field(
        2, ge=1, description="Threads that decode larger bodies. Each may hold one decoded image in memory."
    )
    keys_file: Path | None = Field(
        None, description="JSON file of hashed API keys and quotas; without it everybody may classify."
    )
    redis_url: RedisDsn | None = Field(
        None,
        description="Redis that replicas with the same keys file share, e.g. redis://10.0.0.5:6379/0. With it"
        " a key's quota holds for all of them together, and each request under a quota makes two round trips "
        "there; without it every replica grants the whole quota.",
    )
    otlp_endpoint: HttpUrl | None = Field(
        None,
        description="OpenTelemetry collector that takes traces over HTTP, e.g. http://10.0.0.6:4318; needs "
        "the extra exitramp[tracing]. Each traced request costs processor time, see the README. Off costs "
        "nothing.",
    )
    trace_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of requests that are traced, without a W3C trace context of their own. "
        "Lowering it saves processor time and loses examples of what is rare.",
    )
    trusted_hosts: tuple[Annotated[str, Field(pattern=HOST)], ...] = Field(
        ("*",),
        description="Host headers that are answered; others get 400. * answers all, *.example.com what is "
        "below it.",
    )
    docs: bool = Field(
        True,
        description="Pages for people: the playground, /docs, /redoc and /openapi.json. Without them the "
        "service is its interface alone, and does not describe it.",
    )
    shutdown_grace_s: int = Field(
        10, ge=1, description="Longest wait for open requests after SIGTERM, seconds; then they are cut off."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="Least severe event that is logged. debug adds volume, not insight, in production.",
    )

    @field_validator("model_store")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        """Where it is, whatever becomes of the working directory."""
        return folder.absolute()

    @field_validator("otlp_endpoint")
    @classmethod
    def _installed(cls, url: HttpUrl | None) -> HttpUrl | None:
        """Refuse what only an extra can do, where that is not installed."""
        if url is None:
            return None
        try:
            import opentelemetry.exporter.otlp.proto.http  # noqa: F401
        except ImportError as error:
            raise ValueError("traces need OpenTelemetry: pip install 'exitramp[tracing]'") from error
        return url

    @field_validator("redis_url")
    @classmethod
    def _usable(cls, url: RedisDsn | None) -> RedisDsn | None:
        """Refuse options that no connection has before the first request meets them."""
        if url is None:
            return None
        from redis.asyncio import ConnectionPool

        try:
            ConnectionPool.from_url(str(url)).make_connection()  # type: ignore[no-untyped-call]
        except TypeError as error:
            options = ", ".join(name for name, _ in url.query_params())
            raise ValueError(f"one of the options {options} is none of a connection to Redis") from error
        return url
