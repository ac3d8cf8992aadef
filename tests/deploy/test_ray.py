"""The service on Ray Serve: a real cluster of two nodes on this machine, in a process of its own."""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.ray.trial import Trial, trial
from service.app import create_app
from service.settings import Settings

if importlib.util.find_spec("ray") is None:
    pytest.skip("ray is not installed", allow_module_level=True)

MODELS = '["cifar10-fusion"]'
HALVES = {"min_replicas": 2, "max_replicas": 2, "gpus": 0.5}
RATE = 20
SECONDS = 5
LONG = 4
ALL_ANSWERED = {200: RATE * SECONDS - 1 + LONG}
PATIENCE_S = 300.0
SHIP = Path(__file__).parents[1] / "images/ship.png"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Trial]:
    """Two nodes of one core with a replica on each; nobody is refused because the machine is busy."""
    settings = {"MODELS": MODELS, "BROWNOUT": "false"}
    with trial([{"num_cpus": 1}, {"num_cpus": 1}], settings) as started:
        started.do("deploy", scale={"min_replicas": 2, "max_replicas": 2})
        settle(started, 2)
        yield started


@pytest.fixture
def client(cluster: Trial) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cluster.url, timeout=PATIENCE_S) as opened:
        yield opened


def settle(cluster: Trial, replicas: int, name: str = "default") -> None:
    cluster.wait(lambda: bool(cluster.do("settled", replicas=replicas, name=name)), PATIENCE_S)


@asynccontextmanager
async def alone() -> AsyncIterator[httpx.AsyncClient]:
    """The service without Ray, in this process."""
    app = create_app(Settings(models=("cifar10-fusion",)))
    async with app.router.lifespan_context(app):
        await app.state.loading
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(base_url="http://alone", transport=transport) as opened:
            yield opened


async def test_answers_are_those_of_the_service_alone(
    client: httpx.Client, png: Callable[[int], bytes]
) -> None:
    asked = [
        (SHIP.read_bytes(), "100M"),
        *((png(i), limit) for i in range(8) for limit in ("16M", "36M", "1G")),
    ]
    async with alone() as service:
        for image, limit in asked:
            headers = {"X-FLOP-Limit": limit, "X-Request-Id": "same"}
            there = client.post("/classify", content=image, headers=headers)
            here = await service.post("/classify", content=image, headers=headers)
            assert there.status_code == here.status_code == 200
            assert timeless(there.json()) == timeless(here.json())
            for name in ("x-flops", "x-exit", "x-request-id", "content-type"):
                assert there.headers.get_list(name) == here.headers.get_list(name)


def timeless(answer: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in answer.items() if name != "timing_ms"}


def test_streams_and_errors_and_the_protocol_pass_through(client: httpx.Client) -> None:
    image = SHIP.read_bytes()
    with client.stream("POST", "/classify/stream", content=image, headers={"X-FLOP-Limit": "100M"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        names = [line for line in stream.iter_lines() if line.startswith("event:")]
    assert names == [*(["event: prediction"] * (len(names) - 1)), "event: done"] and len(names) > 2
    refused = client.post("/classify", content=image, headers={"X-FLOP-Budget": "1"})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "budget_too_small"
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    assert len(refused.headers.get_list("date")) == 1
    assert client.post("/classify", content=b"x" * 11 * 2**20).json()["code"] == "too_large"
    assert client.post("/explain", content=image).headers["content-type"] == "image/png"
    assert client.get("/v2/models/cifar10-fusion").json()["name"] == "cifar10-fusion"
    assert client.get("/readyz").json() == {"status": "ready"}


def test_one_page_has_the_metrics_of_all_replicas_and_counts_what_clients_counted(
    client: httpx.Client,
) -> None:
    before, _ = answered(client)
    for _ in range(30):
        assert client.post("/classify", content=SHIP.read_bytes()).status_code == 200
    after, replicas = answered(client)
    assert after - before == 30
    assert len(replicas) == 2


def answered(client: httpx.Client) -> tuple[float, set[str]]:
    """Successes of /classify over all replicas, and which replicas there are."""
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    wanted = {"route": "/classify", "code": "200"}
    requests = [s for s in families["exitramp_requests"].samples if wanted.items() <= s.labels.items()]
    return sum(s.value for s in requests), {
        s.labels["replica"] for s in families["exitramp_model_info"].samples
    }


async def test_a_lost_replica_fails_no_request_and_is_replaced(cluster: Trial) -> None:
    assert await under_load(cluster.url, lambda: cluster.do("kill_replica")) == ALL_ANSWERED
    settle(cluster, 2)


async def test_a_lost_node_fails_no_request(cluster: Trial) -> None:
    assert await under_load(cluster.url, lambda: cluster.do("kill_node")) == ALL_ANSWERED


@pytest.fixture(scope="module")
def halves(cluster: Trial) -> str:
    """Two replicas beside the others, each with half a GPU; where they are.

    Ray believes what a node says it has: here OpenVINO answers in the GPU's place.
    """
    cluster.do("add_node", num_cpus=3, num_gpus=1)  # one may go to a replica that has lost its node
    cluster.do("deploy", scale=HALVES, name="halves", route_prefix="/halves")
    settle(cluster, 2, "halves")
    return f"{cluster.url}/halves"


def test_two_replicas_share_one_gpu(cluster: Trial, halves: str) -> None:
    assert cluster.do("free", resource="GPU") == 0
    assert httpx.get(f"{halves}/readyz", timeout=PATIENCE_S).json() == {"status": "ready"}


async def test_a_replica_that_is_taken_away_finishes_its_requests(cluster: Trial, halves: str) -> None:
    fewer = {**HALVES, "min_replicas": 1, "max_replicas": 1}

    def shrink() -> None:
        cluster.do("deploy", scale=fewer, name="halves", route_prefix="/halves")

    assert await under_load(halves, shrink) == ALL_ANSWERED
    settle(cluster, 1, "halves")
    assert cluster.do("free", resource="GPU") == 0.5


async def under_load(url: str, change: Callable[[], None]) -> Counter[int]:
    """Statuses of single images at a steady rate, and of long requests under way when something changes."""
    image = SHIP.read_bytes()
    statuses: Counter[int] = Counter()
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client, asyncio.TaskGroup() as group:

        async def one(images: int) -> None:
            files = [("image", ("ship.png", image, "image/png"))] * images
            answer = await client.post(f"{url}/classify", files=files, headers={"X-FLOP-Limit": "100M"})
            statuses[answer.status_code] += 1

        async def changing() -> None:
            for _ in range(LONG):
                group.create_task(one(64))
            await asyncio.sleep(0.1)  # they are on their replicas, two on each, and take longer than this
            await asyncio.to_thread(change)

        for i in range(RATE * SECONDS):
            group.create_task(changing() if i == RATE else one(1))
            await asyncio.sleep(1 / RATE)
    return statuses
