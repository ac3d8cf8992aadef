"""The Python client against the real server, and the README's examples of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType

import httpx
import pytest
from conftest import CLASSES, SmallStore
from live import Server, serving

from service.client import (
    Answer,
    AsyncClient,
    BudgetTooSmall,
    Client,
    FailedImage,
    NoAnswer,
    Prediction,
    Refused,
    RetryLater,
    Unauthorized,
    UnknownModel,
    UnusableImage,
)

ROOT = Path(__file__).parent.parent.parent
KEY = "the key of the tests"


def settings(store: SmallStore, **more: str) -> dict[str, str]:
    """Of a server with the small model."""
    return {
        "MODEL_STORE": str(store.root),
        "MODELS": '["small"]',
        "EXECUTOR": "torch",
        "THREADS": "1",
        **more,
    }


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    with serving(settings(small_store)) as running:
        yield running


def test_both_clients_say_what_the_service_says(server: Server, png: Callable[[int], bytes]) -> None:
    async def ask() -> list[Answer]:
        async with AsyncClient(server.url) as client:
            calls = [client.classify(png(seed), limit="1G", request_id=f"id-{seed}") for seed in range(8)]
            return await asyncio.gather(*calls)

    with Client(server.url) as client:
        answers = [client.classify(png(seed), limit=1e9, request_id=f"id-{seed}") for seed in range(8)]
    for seed, pair in enumerate(zip(answers, asyncio.run(ask()), strict=True)):
        body = server.client.post("/classify", content=png(seed), headers={"X-FLOP-Limit": "1G"}).json()
        (said,) = body["predictions"]
        for answer in pair:
            got = answer.prediction
            assert (got.label, got.index, got.exit) == (said["label"], said["index"], said["exit"])
            assert got.probability == pytest.approx(said["probability"], abs=1e-4) and len(got.top) == 5
            assert (answer.model, answer.version, answer.policy) == ("small", 1, body["policy"])
            assert answer.flops == got.flops == said["flops"] and answer.timing.total_ms > 0
            assert answer.budget.limit == 1e9 and answer.request_id == f"id-{seed}"


def test_several_images_keep_their_places_and_their_sum(server: Server, png: Callable[[int], bytes]) -> None:
    with Client(server.url) as client:
        flops = [exit.flops for exit in client.model("small").exits]
        budget = (flops[0] + flops[-1]) / 2
        images = [png(seed) for seed in range(30)] + [b"no image"] + [png(seed) for seed in range(33)]
        answer = client.classify_many(images, budget=budget)
    assert len(answer.predictions) == 64
    failed = answer.predictions[30]
    assert isinstance(failed, FailedImage) and failed.code == "unsupported_media_type" and failed.detail
    charged = [entry.flops for entry in answer.predictions if isinstance(entry, Prediction)]
    assert len(charged) == 63 and answer.flops == sum(charged) <= 63 * budget


def test_refusals_are_told_apart(server: Server, png: Callable[[int], bytes]) -> None:
    with Client(server.url, retries=3) as client:
        with pytest.raises(BudgetTooSmall, match="422 budget_too_small"):
            client.classify(png(0), budget=1)
        with pytest.raises(UnknownModel) as unknown:
            client.classify(png(0), model="none", request_id="my-id")
        assert unknown.value.request_id == "my-id"
        with pytest.raises(UnknownModel):
            client.model("none")
        for image in (b"", b"hello", png(0)[:99]):
            with pytest.raises(UnusableImage):
                client.classify(image)
        with pytest.raises(UnusableImage):
            client.classify_many([b"hello"])  # a lone image's error is the whole answer
        with pytest.raises(Refused, match="400 invalid_header"):
            client.classify(png(0), budget="many")


def test_models_readiness_and_explanations(server: Server, png: Callable[[int], bytes]) -> None:
    with Client(server.url) as client:
        assert client.ready()
        (model,) = client.models()
        assert (model.name, model.task, model.classes) == ("small", "cifar10", CLASSES)
        assert [exit.exit for exit in model.exits] == [1, 2, 3, 4] and model.curve
        drawn = client.explain(png(1), limit=model.exits[0].flops)
        said = client.classify(png(1), limit=model.exits[0].flops).prediction
    assert drawn.png.startswith(b"\x89PNG")
    assert (drawn.exit, drawn.index, drawn.flops) == (said.exit, said.index, said.flops) and drawn.exit == 1


class Counted(httpx.HTTPTransport):
    """Counts what httpx does to the network."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["trace"] = lambda event, _: self.done.update([event])
        return super().handle_request(request)


def test_requests_share_a_connection_refused_ones_too(server: Server, png: Callable[[int], bytes]) -> None:
    transport = Counted()
    with Client(server.url, transport=transport) as client:
        for seed in range(5):
            client.classify(png(seed))
            with pytest.raises(UnusableImage):
                client.classify(b"hello")
            with pytest.raises(Refused):
                next(client.stream(b"hello"))
    assert transport.done["connection.connect_tcp.complete"] == 1


def test_a_stream_ends_in_what_classify_says(server: Server, png: Callable[[int], bytes]) -> None:
    async def ask() -> list[int]:
        async with AsyncClient(server.url) as client:
            return [said.exit async for said in client.stream(png(1), limit="1G")]

    transport = Counted()
    with Client(server.url, transport=transport) as client:
        for _ in range(3):
            stream = client.stream(png(1), limit="1G", request_id="my-id")
            said = list(stream)
            exits, times = [one.exit for one in said], [one.elapsed_ms for one in said]
            assert exits == sorted(set(exits)) and times == sorted(times)
            whole = client.classify(png(1), limit="1G").prediction
            last = stream.answer.prediction
            assert last == said[-1] and (last.label, last.exit) == (whole.label, whole.exit)
            assert stream.answer.model == "small" and stream.answer.request_id == "my-id"
    assert transport.done["connection.connect_tcp.complete"] == 1
    assert asyncio.run(ask()) == exits


def example(number: int, url: str) -> CodeType:
    """The README's n-th example of the client, against another server."""
    chapter = (ROOT / "README.md").read_text().partition("## Python client")[2].partition("\n## ")[0]
    text = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)[number]
    return compile(text.replace("http://127.0.0.1:8000", url), "README.md", "exec")


def test_the_readmes_example_runs(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(example(0, server.url), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].split()[0] in CLASSES and "422 budget_too_small" in lines[3]


def test_the_readmes_example_of_a_stream_runs(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(example(1, server.url), {})
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_keys_and_quotas(small_store: SmallStore, png: Callable[[int], bytes], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    entry = {"name": "tests", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    keys.write_text(json.dumps({"keys": [entry | {"flops_per_second": 1e6, "burst_flops": 8e6}]}))
    pauses: list[float] = []
    with serving(settings(small_store, KEYS_FILE=str(keys))) as server:
        with Client(server.url) as client, pytest.raises(Unauthorized):
            client.classify(png(0))
        patient = Client(server.url, api_key=KEY, retries=1, retry_for_s=600, sleep=pauses.append)
        with patient as client, pytest.raises(RetryLater) as refused:
            for _ in range(100):
                client.classify(png(0), limit="1G")
        assert refused.value.code == "quota_exhausted" and refused.value.retry_after_s
        assert pauses and min(pauses) >= 1
    with Client(server.url) as client, pytest.raises(NoAnswer):
        client.ready()
