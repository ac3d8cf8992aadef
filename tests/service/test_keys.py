"""Keys at rest, their reload, and whose they are."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from service.errors import Unauthorized
from service.keys import Client, KeyRing, KeysFileError
from service.quotas import Bucket, TokenBucket

RATE, BURST = 1_000, 2_000


def entry(name: str, key: str, **quota: float) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **quota}


def write(path: Path, *entries: dict[str, Any], version: int = 1) -> None:
    path.write_text(json.dumps({"keys": entries}))
    os.utime(path, (version, version))  # so that a change shows however fast the test runs


def bucket_of(client: Client) -> TokenBucket:
    assert isinstance(client.bucket, TokenBucket)
    return client.bucket


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
        (json.dumps({"keys": [entry("a", "k", flops_per_second=1, burst_flops=2e15)]}), "less than or equal"),
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


def test_accounts_are_opened_where_they_belong_and_once_for_a_name_and_its_quota(path: Path) -> None:
    opened: list[tuple[str, int, int]] = []

    def open_bucket(name: str, flops_per_second: int, burst_flops: int) -> Bucket:
        opened.append((name, flops_per_second, burst_flops))
        return TokenBucket(flops_per_second, burst_flops)

    quota = {"flops_per_second": RATE, "burst_flops": BURST}
    write(path, entry("a", "key-a", **quota), entry("free", "key-free"))
    ring = KeyRing.load(path, open_bucket)
    write(path, entry("a", "new", **quota), entry("b", "key-b", **quota), version=2)
    assert ring.reload_if_changed(1.0)
    write(path, entry("a", "new", **quota | {"burst_flops": 9}), version=3)
    assert ring.reload_if_changed(2.0)
    assert opened == [("a", RATE, BURST), ("b", RATE, BURST), ("a", RATE, 9)]
