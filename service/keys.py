"""API keys, and whose they are.

A keys file holds SHA-256 digests, never keys::

    {"keys": [{"name": "team-a", "sha256": "9f86d081…", "flops_per_second": 1e9, "burst_flops": 2e9}]}

Times are arguments, in seconds of one monotonic clock. Not thread-safe: the event loop owns all of this.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from service.errors import Unauthorized
from service.quotas import MOST_FLOPS, Bucket, TokenBucket

CHECK_INTERVAL_S: Final = 1.0
"""Least time between two looks at the keys file; a change takes effect after at most this."""

OpenBucket = Callable[[str, int, int], Bucket]
"""Opens the account of a key: from its name, FLOPs per second and burst FLOPs."""

logger = logging.getLogger(__name__)


class KeysFileError(Exception):
    """The keys file cannot be used; the message names the file and the reason, and no key."""


class KeyEntry(BaseModel, frozen=True, extra="forbid"):
    """One client of the service. Without a quota it may spend without bound."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Whose key it is; appears in logs.")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hexadecimal, lower case."
    )
    flops_per_second: int | None = Field(
        None, gt=0, le=MOST_FLOPS, description="FLOPs that the quota regains per second."
    )
    burst_flops: int | None = Field(
        None, gt=0, le=MOST_FLOPS, description="FLOPs that may be spent at once after a pause."
    )

    @model_validator(mode="after")
    def _whole_quota(self) -> Self:
        if (self.flops_per_second is None) != (self.burst_flops is None):
            raise ValueError("flops_per_second and burst_flops are given together or not at all")
        return self


class KeysFile(BaseModel, frozen=True, extra="forbid"):
    """The whole file. An empty list admits nobody: so the last key can be revoked, too."""

    keys: tuple[KeyEntry, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for field in ("name", "sha256"):
            for value, times in Counter(getattr(key, field) for key in self.keys).items():
                if times > 1:
                    raise ValueError(f"{field} {value} is given {times} times")
        return self


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request.

    Attributes:
        name: From the keys file.
        bucket: What it may spend; ``None`` for no quota.
    """

    name: str
    bucket: Bucket | None


def open_local(name: str, flops_per_second: int, burst_flops: int) -> Bucket:
    """An account in this process, an ``OpenBucket``."""
    return TokenBucket(flops_per_second, burst_flops)


class KeyRing:
    """The keys of one file, kept up to date."""

    def __init__(
        self, path: Path, keys: KeysFile, stamp: tuple[int, ...] | None, open_bucket: OpenBucket
    ) -> None:
        """Hold ``keys``, read from ``path`` when it was stamped ``stamp``; use ``load``."""
        self._path = path
        self._stamp = stamp
        self._open_bucket = open_bucket
        self._checked_s: float | None = None
        self._clients: dict[KeyEntry, Client] = {}
        self._digests: list[tuple[bytes, Client]] = []
        self._replace(keys)

    @classmethod
    def load(cls, path: Path, open_bucket: OpenBucket = open_local) -> Self:
        """Read the keys file at ``path``; ``open_bucket`` says where accounts are.

        Raises:
            KeysFileError: It cannot be read, is not JSON, or not a keys file.
        """
        # The stamp first: a change in between is then seen as one at the next look.
        stamp = _stamp(path)
        return cls(path, _read(path), stamp, open_bucket)

    def authenticate(self, api_key: str | None) -> Client:
        """The client whose key this is.

        Raises:
            Unauthorized: No key, or one that is not in the file.
        """
        if not api_key:
            raise Unauthorized("this service needs an API key in the header X-API-Key")
        digest = hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).digest()
        found: Client | None = None
        # All of them, each in constant time: how long it takes tells nothing about which came close.
        for known, client in self._digests:
            if hmac.compare_digest(known, digest):
                found = client
        if found is None:
            raise Unauthorized("the API key in the header X-API-Key is not known here")
        return found

    def reload_if_changed(self, now_s: float) -> bool:
        """Take over the file if it changed, and return whether; looks once per ``CHECK_INTERVAL_S`` at most.

        A client whose name and quota stay the same keeps what it has left, also when its key is rotated; any
        other gets another account. A file that cannot be used is logged once and the old keys stay.
        """
        if self._checked_s is not None and now_s - self._checked_s < CHECK_INTERVAL_S:
            return False
        self._checked_s = now_s
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            keys = _read(self._path)
        except KeysFileError as error:
            logger.warning("keys_reload_failed", extra={"reason": str(error)})
            return False
        self._replace(keys)
        logger.info("keys_reloaded", extra={"keys": len(keys.keys)})
        return True

    def _replace(self, keys: KeysFile) -> None:
        known = {_account(entry): client for entry, client in self._clients.items()}
        self._clients = {entry: known.get(_account(entry)) or self._open(entry) for entry in keys.keys}
        self._digests = [(bytes.fromhex(entry.sha256), client) for entry, client in self._clients.items()]

    def _open(self, entry: KeyEntry) -> Client:
        if entry.flops_per_second is None or entry.burst_flops is None:
            return Client(entry.name, None)
        bucket = self._open_bucket(entry.name, entry.flops_per_second, entry.burst_flops)
        return Client(entry.name, bucket)


def _account(entry: KeyEntry) -> tuple[str, int | None, int | None]:
    """What makes two entries the same account: not the key, or rotating it would refill the bucket."""
    return entry.name, entry.flops_per_second, entry.burst_flops


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does, the inode if it is replaced at once; ``None`` if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> KeysFile:
    try:
        keys = KeysFile.model_validate_json(path.read_bytes())
        if path.stat().st_mode & stat.S_IWOTH:  # whoever can write it decides who may classify
            logger.warning("keys_file_writable_by_all", extra={"path": str(path)})
        return keys
    except OSError as error:
        raise KeysFileError(f"keys file {path}: {error.strerror or error}") from error
    except ValidationError as error:
        # Only place and message: pydantic's own text repeats the input, which may be a key pasted by mistake.
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "top level"
        raise KeysFileError(f"keys file {path}, {place}: {first['msg']}") from error
