"""Two server processes with one Redis: their keys have one account each."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
from conftest import SmallStore
from live import Server, serving
from redis_process import RedisProcess, running_redis

from model_store.flops import StageFlops, direct_flops

PATIENCE_S = 60
"""With what takes moments, on a busy machine, seconds."""

UP = 'exitramp_quota_store_up{store="redis"}'


@pytest.fixture(scope="module")
def costs(small_store: SmallStore) -> tuple[int, ...]:
    """FLOPs of each exit alone."""
    exits = small_store.artifact.manifest.exits
    return direct_flops(tuple(StageFlops(spec.block_flops, spec.head_flops) for spec in exits))


def middle(costs: tuple[int, ...]) -> int:
    """A mean budget that some images exceed."""
    return (costs[0] + costs[-1]) // 2


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with running_redis(tmp_path_factory.mktemp("quota-redis")) as process:
        yield process


@pytest.fixture(scope="module")
def replicas(
    own_redis: RedisProcess,
    small_store: SmallStore,
    costs: tuple[int, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Server]]:
    quotas = {
        "mixed": (5 * costs[-1], 2 * costs[-1]),
        "exact": (1, 4 * middle(costs)),
        "local": (1, 8 * costs[0]),
    }
    keys = [
        {
            "name": name,
            "sha256": hashlib.sha256(f"{name}-key".encode()).hexdigest(),
            "flops_per_second": flops_per_second,
            "burst_flops": burst_flops,
        }
        for name, (flops_per_second, burst_flops) in quotas.items()
    ]
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps({"keys": keys}))
    settings = {
        "MODEL_STORE": str(small_store.root),
        "MODELS": '["small"]',
        "EXECUTOR": "torch",
        "KEYS_FILE": str(path),
        "REDIS_URL": own_redis.url,
    }
    with serving(settings, wait=False) as one, serving(settings) as other:
        wait_for(lambda: one.client.get("/readyz").status_code == 200)
        yield [one, other]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


class Press:
    """Threads that ask for more than a key may have, until they are told to stop."""

    def __init__(self, replicas: list[Server], image: bytes, kinds: list[dict[str, str]]) -> None:
        self.statuses: Counter[int] = Counter()
        self.flops: Counter[str] = Counter()
        self.refused, self._over = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(replica.url, image, kinds[i:] + kinds[:i]))
            for replica in replicas
            for i in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str, image: bytes, kinds: list[dict[str, str]]) -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            for kind in itertools.cycle(kinds):
                if self._over.is_set():
                    return
                headers = {"X-API-Key": "mixed-key", **kind}
                answer = client.post("/classify", content=image, headers=headers)
                self.statuses[answer.status_code] += 1
                if answer.is_success:
                    self.flops[url] += int(answer.headers["x-flops"])
                elif answer.status_code == 429:
                    self.refused.set()


def test_two_replicas_together_grant_what_the_rate_of_the_key_allows(
    replicas: list[Server], costs: tuple[int, ...], png: Callable[[int], bytes]
) -> None:
    kinds = [{}, {"X-FLOP-Limit": str(costs[0])}, {"X-FLOP-Limit": str(costs[-1])}]
    kinds += [{"X-FLOP-Budget": str(middle(costs))}]
    rate = 5 * costs[-1]
    press = Press(replicas, png(0), kinds)
    try:
        assert press.refused.wait(PATIENCE_S)
        before, started_s = press.flops.total(), time.monotonic()
        time.sleep(4)
        after, seconds = press.flops.total(), time.monotonic() - started_s
    finally:
        press.stop()
    assert set(press.statuses) == {200, 429}
    assert len(press.flops) == 2  # both answered
    allowed = rate * seconds
    assert 0.75 * allowed < after - before <= allowed + 3 * costs[-1]


def test_a_request_of_several_images_reserves_their_exact_sum_wherever_it_is_sent(
    replicas: list[Server], costs: tuple[int, ...], png: Callable[[int], bytes]
) -> None:
    one, other = replicas
    budget = middle(costs)
    key = {"X-API-Key": "exact-key"}

    def several(replica: Server, usable: int) -> httpx.Response:
        files = [("image", ("i", content, "image/png")) for content in (b"", *map(png, range(usable)))]
        return replica.client.post("/classify", files=files, headers={**key, "X-FLOP-Budget": str(budget)})

    def left(replica: Server) -> int:
        """As the refusal of a request for a whole account says."""
        answer = several(replica, 4)
        assert answer.status_code == 429, answer.text
        assert f"reserves {4 * budget} FLOPs" in answer.json()["detail"]
        return int(answer.json()["detail"].split(" has ")[1].split()[0])

    limit = {**key, "X-FLOP-Limit": str(costs[0])}
    assert one.client.post("/classify", content=png(0), headers=limit).status_code == 200
    assert 0 <= left(other) - (4 * budget - costs[0]) <= PATIENCE_S  # one FLOP a second
    answer = several(other, 3)
    assert answer.status_code == 200, answer.text
    spent = costs[0] + int(answer.headers["x-flops"])
    assert 0 <= left(one) - (4 * budget - spent) <= 2 * PATIENCE_S


def test_without_redis_both_serve_on_by_themselves_and_find_it_again(
    replicas: list[Server], own_redis: RedisProcess, costs: tuple[int, ...], png: Callable[[int], bytes]
) -> None:
    def ask(replica: Server) -> int:
        headers = {"X-API-Key": "local-key", "X-FLOP-Limit": str(costs[0])}
        return replica.client.post("/classify", content=png(0), headers=headers).status_code

    assert [replica.metrics()[UP] for replica in replicas] == [1, 1]
    own_redis.stop()
    for replica in replicas:
        assert [ask(replica) for _ in range(10)] == [200] * 8 + [429] * 2
        assert replica.metrics()[UP] == 0
    own_redis.start()
    for replica in replicas:
        wait_for(lambda replica=replica: ask(replica) in (200, 429) and replica.metrics()[UP] == 1)
    # The new Redis knows of no account: a full one, for both of them together.
    statuses = Counter(ask(replica) for _ in range(8) for replica in replicas)
    assert 0 < statuses[200] <= 8 and statuses.total() == statuses[200] + statuses[429]
