"""Keys at rest, their reload, and what their quotas let through."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import QuotaExhausted, Unauthorized
from service.keys import Client, KeyRing, KeysFileError, TokenBucket

RATE, BURST = 1_000, 2_000


def entry(name: str, key: str, **quota: float) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **quota}


def write(path: Path, *entries: dict[str, Any], version: int = 1) -> None:
    path.write_text(json.dumps({"keys": entries}))
    os.utime(path, (version, version))  # so that a change shows however fast the test runs


def bucket_of(client: Client) -> TokenBucket:
    assert client.bucket is not None
    return client.bucket


def spend(bucket: TokenBucket, flops: float, now_s: float) -> int:
    """Reserve and settle at once: all of it is spent."""
    reserved = bucket.reserve(flops, now_s)
    bucket.settle(reserved, reserved, now_s)
    return reserved


def refused(bucket: TokenBucket, flops: float, now_s: float) -> bool:
    try:
        return not bucket.reserve(flops, now_s)
    except QuotaExhausted:
        return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_known_key_is_its_client_and_an_account_is_shared_by_its_requests(path: Path) -> None:
    write(path, entry("a", "key-a"), entry("b", "key-b", flops_per_second=1e9, burst_flops=2e9))
    ring = KeyRing.load(path)
    assert ring.authenticate("key-a") == Client("a", None)
    b = ring.authenticate("key-b")
    assert (b.name, bucket_of(b).flops_per_second, bucket_of(b).burst_flops) == ("b", 10**9, 2 * 10**9)
    assert ring.authenticate("key-b") is b


@pytest.mark.parametrize("key", [None, "", "key", "key-aa", "KEY-A", "schlüssel", "\udc80", "a" * 9_999])
def test_a_missing_or_wrong_key_is_refused_without_being_repeated(path: Path, key: str | None) -> None:
    write(path, entry("a", "key-a"), entry("b", "key-b"))
    with pytest.raises(Unauthorized) as caught:
        KeyRing.load(path).authenticate(key)
    assert not key or len(key) < 4 or key not in caught.value.detail


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ('{"keys": [', "Invalid JSON"),
        ("[]", "top level"),
        ('{"keys": [{"name": "a", "sha256": "plain-secret"}]}', "keys.0.sha256: String should match"),
        (json.dumps({"keys": [entry("a b", "k")]}), "keys.0.name"),
        (json.dumps({"keys": [entry("a", "k", flops_per_second=5.0)]}), "together or not at all"),
        (json.dumps({"keys": [entry("a", "k", flops_per_second=0, burst_flops=5)]}), "greater than 0"),
        (json.dumps({"keys": [entry("a", "k", flops_per_minute=5)]}), "keys.0.flops_per_minute"),
        (json.dumps({"keys": [entry("a", "k"), entry("a", "m")]}), "name a is given 2 times"),
        (json.dumps({"keys": [entry("a", "k"), entry("b", "k")]}), "sha256 .* is given 2 times"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason_in_one_line(
    path: Path, text: str | None, reason: str
) -> None:
    if text is not None:
        path.write_text(text)
    with pytest.raises(KeysFileError, match=reason) as caught:
        KeyRing.load(path)
    assert str(path) in str(caught.value)
    assert not any(unwanted in str(caught.value) for unwanted in ("\n", "plain-secret"))


def test_a_changed_file_is_taken_over_and_looked_at_once_per_second_at_most(path: Path) -> None:
    write(path, entry("a", "key-a"))
    ring = KeyRing.load(path)
    assert not ring.reload_if_changed(100.0)
    write(path, version=2)
    times = (100.0, 100.5, 100.999, 101.0, 102.0)
    assert [ring.reload_if_changed(now_s) for now_s in times] == [False, False, False, True, False]
    with pytest.raises(Unauthorized):  # an empty list admits nobody
        ring.authenticate("key-a")


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(path: Path) -> None:
    write(path, entry("a", "key-a"))
    ring = KeyRing.load(path)
    write(path.with_name("new.json"), entry("b", "key-b"))
    path.with_name("new.json").replace(path)
    assert ring.reload_if_changed(100.0)
    assert ring.authenticate("key-b").name == "b"


@pytest.mark.parametrize("text", [None, "{"])
def test_a_deleted_or_broken_file_keeps_the_old_keys_and_is_logged_once(
    path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, entry("a", "key-a"))
    ring = KeyRing.load(path)
    path.unlink()
    if text is not None:
        path.write_text(text)
    with caplog.at_level(logging.INFO):
        assert not any(ring.reload_if_changed(now_s) for now_s in (1.0, 3.0, 5.0))
        assert ring.authenticate("key-a").name == "a"
        write(path, entry("a", "key-a"))
        assert ring.reload_if_changed(7.0)
    assert [record.getMessage() for record in caplog.records] == ["keys_reload_failed", "keys_reloaded"]
    assert caplog.records[0].levelname == "WARNING"
    assert str(path) in vars(caplog.records[0])["reason"]


def test_what_is_left_survives_a_reload_and_a_new_key_but_not_a_new_quota(path: Path) -> None:
    quota = {"flops_per_second": RATE, "burst_flops": BURST}
    old = [entry(name, f"key-{name}", **quota) for name in "abc"]
    write(path, *old)
    ring = KeyRing.load(path)
    a, b, c = (ring.authenticate(f"key-{name}") for name in "abc")
    write(path, old[2] | {"burst_flops": 9}, entry("b", "new", **quota), old[0], version=2)
    assert ring.reload_if_changed(1.0)
    assert ring.authenticate("key-a") is a
    assert ring.authenticate("new") is b
    assert ring.authenticate("key-c") is not c
    assert bucket_of(ring.authenticate("key-c")).burst_flops == 9


def test_a_bucket_starts_full_regains_at_its_rate_and_never_holds_more_than_the_burst() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert [spend(bucket, 1_500, 10.0), spend(bucket, 199.5, 10.0)] == [1_500, 200]
    with pytest.raises(QuotaExhausted, match="reserves 400 FLOPs; the key has 300 of 2000 left"):
        spend(bucket, 400, 10.0)
    assert spend(bucket, 300, 10.0) == 300  # the refusal took nothing
    assert spend(bucket, 250, 10.25) == 250
    assert spend(bucket, BURST, 1e6) == BURST
    assert refused(bucket, 1, 1e6)


@pytest.mark.parametrize(("spent", "refund"), [(0, 2_000), (300, 1_700), (10.1, 1_989), (2_000, 0)])
def test_what_was_not_spent_is_given_back_but_never_overfills_the_bucket(spent: float, refund: int) -> None:
    bucket = TokenBucket(RATE, BURST)
    assert bucket.settle(bucket.reserve(BURST, 0.0), spent, 0.0) == refund
    assert bucket.reserve(refund, 0.0) == refund
    bucket.settle(BURST, 0, 60.0)
    assert bucket.reserve(BURST, 60.0) == BURST
    assert refused(bucket, 1, 60.0)


FLOPS = st.integers(1, 10**13)


@given(rate=FLOPS, burst=FLOPS, first=FLOPS, second=FLOPS)
def test_after_retry_after_and_not_a_second_earlier_the_request_is_admitted(
    rate: int, burst: int, first: int, second: int
) -> None:
    bucket = TokenBucket(rate, burst)
    spend(bucket, first, 0.0)
    try:
        spend(bucket, second, 0.0)
    except QuotaExhausted as error:
        wait_s = int(error.headers["Retry-After"])
        assert wait_s == 1 or refused(bucket, second, wait_s - 1)
        assert spend(bucket, second, wait_s) == second


def test_a_reservation_larger_than_the_burst_needs_a_full_bucket_and_leaves_a_debt() -> None:
    bucket = TokenBucket(RATE, BURST)
    spend(bucket, 1, 0.0)
    assert refused(bucket, 5_000, 0.0)
    assert spend(bucket, 5_000, 0.001) == 5_000
    with pytest.raises(QuotaExhausted, match="has 0 of 2000") as caught:
        spend(bucket, 1, 0.001)
    assert caught.value.headers["Retry-After"] == "4"
    assert spend(bucket, 1_000, 4.001) == 1_000


def test_spending_beyond_the_reservation_is_owed() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert bucket.settle(bucket.reserve(BURST, 0.0), BURST + 500, 0.0) == -500
    assert refused(bucket, 1, 0.5)
    assert bucket.reserve(1, 0.501) == 1


@pytest.mark.parametrize("flops", [-1, float("nan"), float("inf"), -float("inf")])
def test_nonsense_flops_are_refused_and_change_nothing(flops: float) -> None:
    bucket = TokenBucket(RATE, BURST)
    for account in (bucket.reserve, partial(bucket.settle, 5)):
        with pytest.raises(ValueError, match="finite and not negative"):
            account(flops, 0.0)
    assert bucket.reserve(BURST, 0.0) == BURST


def test_many_small_steps_regain_as_much_as_one_large_one_and_a_step_back_nothing() -> None:
    bucket = TokenBucket(999_999_937, 10**12)
    spend(bucket, 10**12, 0.0)
    for step in range(1, 10_001):
        bucket.settle(0, 0, step / 10_000)
    assert spend(bucket, 1, 1.0) + spend(bucket, 999_999_936, 0.5) == 999_999_937
    assert all(refused(bucket, 1, now_s) for now_s in (1.0, 0.5, 1.0))


# Nanoseconds since the last step, FLOPs to reserve, share of that to spend, reservations to settle first.
Step = tuple[int, float, float, int]
STEP = st.tuples(st.integers(0, 3 * 10**9), st.floats(0, 6_000), st.floats(0, 1), st.integers(0, 3))


def admitted(bucket: TokenBucket, steps: list[Step]) -> list[tuple[int, int, int]]:
    """Play ``steps``: nanoseconds, FLOPs reserved and FLOPs spent of each admission."""
    now_ns, log, settled = 0, list[tuple[int, int, int]](), 0
    for elapsed_ns, flops, share, settle in steps:
        now_ns += elapsed_ns
        for _, reserved, spent in log[settled : settled + settle]:
            assert bucket.settle(reserved, spent, now_ns / 1e9) == reserved - spent
            settled += 1
        with suppress(QuotaExhausted):
            reserved = bucket.reserve(flops, now_ns / 1e9)
            log.append((now_ns, reserved, int(reserved * share)))
    return log


def test_a_refund_does_not_come_on_top_of_what_was_regained_while_it_was_held() -> None:
    bucket = TokenBucket(1, 1)
    held = bucket.reserve(1, 0.0)
    with pytest.raises(QuotaExhausted):
        bucket.reserve(1, 1.0)
    bucket.settle(held, 0, 1.0)
    assert bucket.reserve(1, 1.0) == 1
    with pytest.raises(QuotaExhausted):
        bucket.reserve(1, 1.0)


@given(rate=st.integers(1, 5_000), burst=st.integers(1, 5_000), steps=st.lists(STEP, max_size=40))
def test_spending_in_every_window_is_at_most_the_burst_and_what_the_rate_regains(
    rate: int, burst: int, steps: list[Step]
) -> None:
    log = admitted(TokenBucket(rate, burst), steps)
    for first, (start_ns, _, _) in enumerate(log):
        spent = largest = 0
        for end_ns, reserved, used in log[first:]:
            largest = max(largest, reserved)
            # In billionths, so that nothing is rounded. The last one counts with all that it may still spend.
            assert (spent + reserved) * 10**9 <= max(burst, largest) * 10**9 + rate * (end_ns - start_ns)
            spent += used
