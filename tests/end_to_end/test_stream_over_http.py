"""Anytime prediction over HTTP: an event per exit, then the end; errors; clients that leave."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from conftest import SmallStore
from live import Server, serving

Event = tuple[str, dict[str, object]]


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    with serving({"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "THREADS": "1"}) as running:
        yield running


def events(server: Server, image: bytes, **headers: str) -> list[Event]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    with server.client.stream("POST", "/classify/stream", content=image, headers=named) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        return parsed("".join(answer.iter_text()))


def parsed(text: str) -> list[Event]:
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_under_a_limit_every_exit_on_the_way_speaks(server: Server, png: Callable[[int], bytes]) -> None:
    *predictions, (last, done) = events(server, png(0), X_FLOP_Limit="1T")
    assert [name for name, _ in predictions] == ["prediction"] * len(predictions) and last == "done"
    exits = [data["exit"] for _, data in predictions]
    assert len(exits) >= 3 and exits == sorted(set(exits))  # type: ignore[type-var]
    spent = [data["flops"] for _, data in predictions]
    assert spent == sorted(spent) and done["flops"] == spent[-1]  # type: ignore[type-var]
    elapsed = [data["elapsed_ms"] for _, data in predictions]
    assert elapsed == sorted(elapsed)  # type: ignore[type-var]


def test_the_last_event_is_what_classify_answers(server: Server, png: Callable[[int], bytes]) -> None:
    for seed in range(10):
        limits = server.client.get("/models/small").json()["exits"]
        limit = {"X-FLOP-Limit": str(limits[seed % 4]["flops"])}
        whole = server.client.post("/classify", content=png(seed), headers=limit).json()
        with server.client.stream("POST", "/classify/stream", content=png(seed), headers=limit) as answer:
            *_, (_, last), (_, done) = parsed("".join(answer.iter_text()))
        assert done.keys() == whole.keys() - {"predictions"}
        (prediction,) = whole["predictions"]
        assert done["policy"] == whole["policy"] and last.keys() == prediction.keys() | {"elapsed_ms"}
        if last["exit"] == prediction["exit"]:
            assert last["index"] == prediction["index"]


def test_what_is_wrong_with_a_request_is_an_ordinary_error(server: Server) -> None:
    answer = server.client.post("/classify/stream", content=b"no image")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    answer = server.client.post("/classify/stream", content=b"x", headers={"X-FLOP-Limit": "1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "budget_too_small")


def test_streams_are_counted_like_any_request(server: Server, png: Callable[[int], bytes]) -> None:
    def count() -> tuple[float, float]:
        metrics = server.metrics()
        requests = metrics.get('exitramp_requests_total{code="200",route="/classify/stream"}', 0.0)
        images = sum(value for key, value in metrics.items() if key.startswith("exitramp_images_total"))
        return requests, images

    before = count()
    for seed in range(5):
        events(server, png(seed))
    after = count()
    assert (after[0] - before[0], after[1] - before[1]) == (5, 5)


def test_a_client_that_leaves_frees_its_place(server: Server, png: Callable[[int], bytes]) -> None:
    for seed in range(5):
        with httpx.Client(base_url=server.url) as client:
            headers = {"X-FLOP-Limit": "1T"}
            with client.stream("POST", "/classify/stream", content=png(seed), headers=headers) as answer:
                next(answer.iter_raw())
    deadline_s = time.monotonic() + 10
    while server.metrics()["exitramp_in_flight"] and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert server.metrics()["exitramp_in_flight"] == 0
