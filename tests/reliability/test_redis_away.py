"""A Redis that is away in every way under load: no request fails, and hardly one waits."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import SmallStore
from figures import Figure
from live import Server, serving
from open_inference import settings_of
from redis_process import RedisProcess
from steady import Answers, asking

from service.shared_quotas import WAIT_S

PATIENCE_S = 60
UP = 'exitramp_quota_store_up{store="redis"}'
KEY = "team-key"
REQUESTS = 40
"""In each state, at least."""


@pytest.fixture
def redis_to_come(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis that has not been started."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    process = RedisProcess(program, tmp_path)
    yield process
    process.stop()


def keys_file(folder: Path) -> Path:
    """A key with a quota that nobody uses up."""
    quota = {"flops_per_second": 10**14, "burst_flops": 10**14}
    key = {"name": "team", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), **quota}
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": [key]}))
    return path


def await_store(server: Server, up: bool) -> None:
    """Until the service has noticed."""
    deadline_s = time.monotonic() + PATIENCE_S
    while server.metrics()[UP] != up:
        assert time.monotonic() < deadline_s, f"never {UP} {up:d}"
        time.sleep(0.02)


@contextmanager
def restarted(redis: RedisProcess) -> Iterator[None]:
    """Killed, and then started empty."""
    redis.stop()
    yield
    redis.start()


@contextmanager
def full(redis: RedisProcess) -> Iterator[None]:
    """It refuses what needs memory, but for scripts that have deleted something before, as ours do."""
    assert redis.tell("CONFIG SET maxmemory 1") == "+OK"
    assert redis.tell("SET other value").startswith("-OOM")
    yield
    assert redis.tell("CONFIG SET maxmemory 0") == "+OK"


@contextmanager
def read_only(redis: RedisProcess) -> Iterator[None]:
    """What a failover leaves behind: every write is refused with READONLY."""
    assert redis.tell("REPLICAOF 127.0.0.1 1") == "+OK"
    yield
    assert redis.tell("REPLICAOF NO ONE") == "+OK"


def slowest_ms(answers: Answers) -> float:
    return max(answers.seconds) * 1000


def test_no_request_fails_whatever_becomes_of_redis(
    small_store: SmallStore,
    tmp_path: Path,
    redis_to_come: RedisProcess,
    png: Callable[[int], bytes],
    figure: Figure,
) -> None:
    redis = redis_to_come
    outages = {"killed": restarted(redis), "frozen": redis.frozen(), "read-only": read_only(redis)}
    states = {**outages, "out of memory": full(redis)}
    quotas = {"KEYS_FILE": str(keys_file(tmp_path)), "REDIS_URL": redis.url}
    slowest: dict[str, float] = {}
    with (
        serving({**settings_of(small_store.root, "small"), **quotas}) as server,
        asking(server.url, png(0), rate=40, headers={"X-API-Key": KEY}) as answers,
    ):
        await_store(server, up=False)  # it was started without any
        answers.await_more(REQUESTS)
        redis.start()
        await_store(server, up=True)
        before = len(answers.statuses)
        answers.await_more(REQUESTS)
        usual_ms = slowest_ms(answers.since(before))
        for name, state in states.items():
            before = len(answers.statuses)
            with state:
                await_store(server, up=name not in outages)
                answers.await_more(REQUESTS)
            await_store(server, up=True)
            slowest[name] = slowest_ms(answers.since(before))
        total, failures = len(answers.statuses), answers.failures
        log = _log(server)
    listed = ", ".join(f"{name} {value:.0f}" for name, value in slowest.items())
    figure(
        11,
        f"redis absent at the start, {', '.join(states)}: {failures.total()} of {total} requests failed; "
        f"slowest of each, ms: {listed}; with Redis {usual_ms:.0f}",
    )
    assert not failures
    assert [line["event"] for line in log] == ["quota_store_lost", "quota_store_found"] * (len(outages) + 1)
    # A request waits for a Redis that hangs at most twice: to reserve and, had that worked, to settle.
    assert max(slowest.values()) < (2 * WAIT_S + 1) * 1000 + 3 * usual_ms


def _log(server: Server) -> list[dict[str, object]]:
    """What was said about Redis."""
    server.stop()
    lines = [json.loads(line) for line in server.rest_of_log()]
    return [line for line in lines if str(line["event"]).startswith("quota_store")]
