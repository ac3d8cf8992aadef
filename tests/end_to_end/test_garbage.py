"""What an answer leaves is free at once: nothing waits for the garbage collector, which seldom looks."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from conftest import SmallStore
from hosted import Hosted, hosted

PACKAGES = ("service", "model_store", "starlette", "fastapi", "uvicorn", "uvloop")
MULTIPART = "multipart/form-data; boundary=x"


@contextmanager
def left_to_the_collector() -> Iterator[list[str]]:
    """Kinds of the objects that only the collector finds; complete at the end."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        time.sleep(0.2)  # connections of the server's thread are closed
        gc.collect()
    finally:
        gc.set_debug(0)
        gc.enable()
        found += [f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage]
        gc.garbage.clear()


def ask(server: Hosted, image: bytes, statuses: set[int]) -> None:
    """Requests that succeed and that fail, each in its own way."""
    post = server.client.post
    broken, infer = image[:-20], "/v2/models/small/infer"
    answers = [
        *(post(path, content=image) for path in ("/classify", "/explain", "/classify/stream")),
        *(post(path, content=broken) for path in ("/classify", "/explain", "/classify/stream")),
        post("/classify", content=b"GIF89a"),
        post("/classify", content=b"nothing"),
        post("/classify", content=b""),
        post("/classify", content=image, headers={"X-FLOP-Budget": "?"}),
        post("/classify", content=image, headers={"X-FLOP-Limit": "1"}),
        post("/classify", content=image, headers={"X-Deadline-Ms": "0.001"}),
        post("/classify", content=image, headers={"X-Model": "nobody"}),
        post("/classify", content=image, headers={"Content-Encoding": "gzip"}),
        post("/classify", content=b"--x--", headers={"Content-Type": MULTIPART}),
        post("/classify", files=[("image", image), ("image", broken)]),
        post(infer, content=image, headers={"Inference-Header-Content-Length": "0"}),
        post(infer, content=broken, headers={"Inference-Header-Content-Length": "0"}),
        post(infer, content=b"{"),
        server.client.get("/nowhere"),
        server.client.get("/classify"),
        server.client.get("/models"),
    ]
    statuses.update(answer.status_code for answer in answers)


def test_no_answer_leaves_anything_to_the_garbage_collector(
    small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    with hosted(small_store.root) as server:
        ask(server, png(0), set())  # what is made once
        statuses: set[int] = set()
        with left_to_the_collector() as found:
            for number in range(3):
                ask(server, png(number), statuses)
    assert statuses == {200, 400, 404, 405, 415, 422, 504}
    assert not [kind for kind in found if kind.startswith(PACKAGES)], sorted(set(found))
