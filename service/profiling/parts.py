"""Parts of a request, each alone: decoding, headers, JSON, the way through the engine, the application."""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import orjson
import torch
from PIL import Image as PillowImage
from pydantic import BaseModel, Field
from starlette.types import Message

from model_store import exits
from model_store.nets.staged import Span
from model_store.preprocess import ImageLimits, InputSpec, decode
from service.app import create_app
from service.engine.engine import Engine
from service.engine.loaded import LoadedModel
from service.engine.null_executor import NullExecutor
from service.engine.ticket import Image, Prediction
from service.headers import parse_headers
from service.metrics import Metrics
from service.profiling.span_times import Launcher
from service.rendering import entry
from service.routes.answered import Answered
from service.settings import Settings

FORMATS = ("PNG", "JPEG", "WEBP")

RawHeaders = list[tuple[bytes, bytes]]
"""As ASGI has them."""


class Part(BaseModel, frozen=True):
    """What one part takes for one request."""

    name: str
    median_us: float = Field(description="Of all rounds, microseconds.")
    low_us: float = Field(description="First decile.")
    high_us: float = Field(description="Ninth decile.")


def part(name: str, seconds: Sequence[float]) -> Part:
    """Sum up at least two measurements, seconds."""
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    median_s = statistics.median(seconds)
    return Part(name=name, median_us=median_s * 1e6, low_us=tenths[0] * 1e6, high_us=tenths[-1] * 1e6)


def timed(name: str, action: Callable[[], object], rounds: int) -> Part:
    """Time ``action`` again and again, after a tenth as often to warm up."""
    seconds = []
    for done in range(rounds + rounds // 10):
        started_s = time.perf_counter()
        action()
        if done >= rounds // 10:
            seconds.append(time.perf_counter() - started_s)
    return part(name, seconds)


async def timed_async(name: str, action: Callable[[], Awaitable[object]], rounds: int) -> Part:
    """The same for a coroutine, one after the other."""
    seconds = []
    for done in range(rounds + rounds // 10):
        started_s = time.perf_counter()
        await action()
        if done >= rounds // 10:
            seconds.append(time.perf_counter() - started_s)
    return part(name, seconds)


def encode(image: Image, kind: str) -> bytes:
    """An image file of uint8 (3, H, W), the way its format usually is."""
    file = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, kind)
    return file.getvalue()


def decoding(files: Sequence[bytes], spec: InputSpec, name: str, rounds: int) -> Part:
    """Decoding of ``files`` to what a network takes; a round is one file."""
    limits, turn = ImageLimits(), iter(range(2 * rounds))
    return timed(name, lambda: decode(files[next(turn) % len(files)], spec, limits), rounds)


def small_formats(images: Sequence[Image], spec: InputSpec, rounds: int) -> list[Part]:
    """Decoding of ``images`` as files of each format."""
    height, width = images[0].shape[1:]
    return [
        decoding([encode(image, kind) for image in images], spec, f"decode {kind} {width}x{height}", rounds)
        for kind in FORMATS
    ]


def header_checks(raw: RawHeaders, rounds: int) -> Part:
    """The one strict pass over a request's headers."""
    return timed("header checks", lambda: parse_headers(raw), rounds)


async def engine_hop(
    model: LoadedModel, image: Image, rounds: int, max_wait_s: float
) -> tuple[Part, Prediction]:
    """From ``submit`` to the answer on the event loop, through a device that computes nothing.

    Queue, worker's thread, gathering, reading the exit, decision and the way back are in it.

    Returns:
        The part, and an answer.
    """
    engine = Engine(Metrics(), max_in_flight=8, max_batch=32, max_wait_s=max_wait_s)
    engine.start()
    idle = LoadedModel(model.manifest, NullExecutor(len(model.manifest.classes)))
    plan = idle.plan(None, None, True)
    answers: list[Prediction] = []

    async def ask() -> None:
        with engine.admit() as permit:
            (outcome,) = await engine.submit(idle, [image.copy()], plan, permit).outcomes()
        assert isinstance(outcome, Prediction), outcome
        answers[:] = [outcome]

    try:
        return await timed_async("engine hop", ask, rounds), answers[0]
    finally:
        await engine.stop()


def json_body(model: LoadedModel, prediction: Prediction, raw: RawHeaders, rounds: int) -> Part:
    """From a prediction to the body of its answer."""
    seconds = {"decode": 1e-4, "queue": 1e-3, "compute": 1e-3, "total": 3e-3}
    budget = parse_headers(raw).budget
    answered = Answered(model, budget, [], [prediction], prediction.flops, seconds)

    def build() -> bytes:
        predictions = [entry(answered.card, outcome) for outcome in answered.outcomes]
        return orjson.dumps({**answered.summary(), "predictions": predictions})

    return timed("JSON", build, rounds)


async def application(settings: Settings, file: bytes, raw: RawHeaders, rounds: int) -> Part:
    """The real application in this process, called as the HTTP server calls it, without one around it.

    Args:
        settings: Of the application; its executor should be ``null``.
        file: The body.
        raw: Its headers.
        rounds: How often.
    """
    app = create_app(settings)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/classify",
        "raw_path": b"/classify",
        "root_path": "",
        "query_string": b"",
        "headers": raw,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", settings.port),
    }

    async def ask() -> None:
        sent: list[int] = []
        messages: list[Message] = [{"type": "http.request", "body": file, "more_body": False}]

        async def receive() -> Message:
            if not messages:
                await asyncio.Event().wait()  # the client stays
            return messages.pop()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        await app(dict(scope), receive, send)
        assert sent == [200], sent

    async with app.router.lifespan_context(app):
        await app.state.loading
        return await timed_async("application", ask, rounds)


def reading(model: LoadedModel, images: int, rounds: int) -> Part:
    """``exits.read`` for a launch of ``images``."""
    logits = torch.randn(images, len(model.manifest.classes))
    measure = model.policy.confidence
    return timed(f"exits.read, {images} images", lambda: exits.read(logits, measure).cpu(), rounds)


def gathering(launcher: Launcher, span: Span, images: int, rounds: int) -> Part:
    """What a launch of ``images`` needs before the executor begins."""
    seconds = [launcher.launch(span, images).times.input_s for _ in range(rounds)]
    return part(f"gather, {images} for span {span}", seconds)
