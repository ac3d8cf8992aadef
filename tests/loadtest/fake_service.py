"""Services that answer as the tests want, in the tests' own event loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

MODEL: dict[str, Any] = {
    "name": "small",
    "version": 1,
    "task": "animals",
    "classes": ["cat", "dog", "ox"],
    "exits": [{"flops": 1_000}, {"flops": 3_000}],
}


def prediction(label: str = "dog", number: int = 1) -> dict[str, Any]:
    """What the model says of one image that leaves at exit ``number``."""
    classes = sorted(MODEL["classes"], key=lambda name: name != label)
    top = [
        {"label": name, "index": MODEL["classes"].index(name), "probability": probability}
        for name, probability in zip(classes, (0.7, 0.2, 0.1), strict=True)
    ]
    flops = MODEL["exits"][number - 1]["flops"]
    return {**top[0], "top": top, "exit": number, "exits": 2, "flops": flops, "degraded": False}


def answer(*predictions: dict[str, Any]) -> dict[str, Any]:
    """A whole answer."""
    return {
        "model": "small",
        "version": 1,
        "policy": "p",
        "task": "animals",
        "budget": {"mean": None, "limit": None, "deadline_ms": None},
        "predictions": list(predictions),
        "flops": sum(one["flops"] for one in predictions),
        "timing_ms": {"decode": 0.1, "queue": 0, "compute": 1.5, "total": 1.6},
    }


async def well(request: web.BaseRequest) -> web.StreamResponse:
    """Answers every image at once."""
    await request.read()
    return web.Response(body=json.dumps(answer(prediction())).encode())


@asynccontextmanager
async def listening(handle: Answer) -> AsyncIterator[str]:
    """Serve until the end of the block; gives the URL."""
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
