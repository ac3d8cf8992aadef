"""API keys, and what each may spend: a token bucket in FLOPs per key, in this process.

A keys file holds SHA-256 digests, never keys::

    {"keys": [{"name": "team-a", "sha256": "9f86d081…", "flops_per_second": 1e9, "burst_flops": 2e9}]}

Times are arguments, in seconds of one monotonic clock. Not thread-safe: the event loop owns all of this.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections import Counter
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from service.errors import QuotaExhausted, Unauthorized

CHECK_INTERVAL_S: Final = 1.0
"""Least time between two looks at the keys file; a change takes effect after at most this."""

_NANO: Final = 10**9

logger = logging.getLogger(__name__)


class KeysFileError(Exception):
    """The keys file cannot be used; the message names the file and the reason, and no key."""


class KeyEntry(BaseModel, frozen=True, extra="forbid"):
    """One client of the service. Without a quota it may spend without bound."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Whose key it is; appears in logs.")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hexadecimal, lower case."
    )
    flops_per_second: int | None = Field(None, gt=0, description="FLOPs that the quota regains per second.")
    burst_flops: int | None = Field(None, gt=0, description="FLOPs that may be spent at once after a pause.")

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


class TokenBucket:
    """An allowance of FLOPs: ``rate`` per second, of which ``burst`` can be saved up. Starts full.

    A request reserves what it may cost before it runs, and settles afterwards. A reservation larger than the
    burst is admitted when the bucket is full and leaves a debt, as does spending beyond a reservation.

    Bound: in any window of T seconds, at most rate·T + max(burst, largest single reservation) is spent.
    Accounts are whole numbers (billionths of a FLOP, nanoseconds): rounding errors do not add up.
    """

    def __init__(self, flops_per_second: int, burst_flops: int) -> None:
        """Fill a bucket; both arguments are positive."""
        self.flops_per_second = flops_per_second
        self.burst_flops = burst_flops
        self._level = burst_flops * _NANO
        self._held = 0  # reserved and not yet settled
        self._updated_ns: int | None = None

    def reserve(self, flops: float, now_s: float) -> int:
        """Take ``flops``, rounded up to whole ones, and return what was taken, for ``settle``.

        Raises:
            QuotaExhausted: They are not there yet; ``Retry-After`` says when they will be if none are taken.
            ValueError: ``flops`` is negative or not finite.
        """
        wanted = _whole(flops)
        self._regain(now_s)
        missing = min(wanted, self.burst_flops) * _NANO - self._level
        if missing > 0:
            rate, left = self.flops_per_second, max(0, self._level // _NANO)
            raise QuotaExhausted(
                f"this request reserves {wanted} FLOPs; the key has {left} of {self.burst_flops} left "
                f"and regains {rate} per second",
                retry_after_s=-(-missing // (rate * _NANO)),
            )
        self._level -= wanted * _NANO
        self._held += wanted * _NANO
        return wanted

    def settle(self, reserved: int, spent: float, now_s: float) -> int:
        """Close a reservation of ``reserved`` and return the FLOPs given back, negative if overspent.

        Raises:
            ValueError: ``spent`` is negative or not finite.
        """
        refund = reserved - _whole(spent)
        self._regain(now_s)
        self._held -= reserved * _NANO
        self._level = min(self._level + refund * _NANO, self.burst_flops * _NANO)
        return refund

    def _regain(self, now_s: float) -> None:
        # Rounding times, not differences of times: what is regained adds up however often this is called.
        now_ns = round(now_s * _NANO)
        if self._updated_ns is not None:
            elapsed_ns = max(0, now_ns - self._updated_ns)
            # What is held may come back, and must not find its place taken by what was regained.
            most = max(self._level, self.burst_flops * _NANO - self._held)
            self._level = min(self._level + elapsed_ns * self.flops_per_second, most)
            now_ns = self._updated_ns + elapsed_ns  # a time before the last one regains nothing, now or later
        self._updated_ns = now_ns


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request.

    Attributes:
        name: From the keys file.
        bucket: What it may spend; ``None`` for no quota.
    """

    name: str
    bucket: TokenBucket | None


class KeyRing:
    """The keys of one file, kept up to date."""

    def __init__(self, path: Path, keys: KeysFile, stamp: tuple[int, ...] | None = None) -> None:
        """Hold ``keys``, read from ``path`` when it was stamped ``stamp``; use ``load``."""
        self._path = path
        self._stamp = stamp
        self._checked_s: float | None = None
        self._clients: dict[KeyEntry, Client] = {}
        self._digests: list[tuple[bytes, Client]] = []
        self._replace(keys)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the keys file at ``path``.

        Raises:
            KeysFileError: It cannot be read, is not JSON, or not a keys file.
        """
        # The stamp first: a change in between is then seen as one at the next look.
        stamp = _stamp(path)
        return cls(path, _read(path), stamp)

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
        other starts with a full bucket. A file that cannot be used is logged once and the old keys stay.
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
        self._clients = {entry: known.get(_account(entry)) or _open_account(entry) for entry in keys.keys}
        self._digests = [(bytes.fromhex(entry.sha256), client) for entry, client in self._clients.items()]


def _whole(flops: float) -> int:
    """Round up to whole FLOPs."""
    if not 0 <= flops < float("inf"):
        raise ValueError(f"FLOPs must be finite and not negative, got {flops}")
    return ceil(flops)


def _account(entry: KeyEntry) -> tuple[str, int | None, int | None]:
    """What makes two entries the same account: not the key, or rotating it would refill the bucket."""
    return entry.name, entry.flops_per_second, entry.burst_flops


def _open_account(entry: KeyEntry) -> Client:
    if entry.flops_per_second is None or entry.burst_flops is None:
        return Client(entry.name, None)
    return Client(entry.name, TokenBucket(entry.flops_per_second, entry.burst_flops))


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does, the inode if it is replaced at once; ``None`` if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> KeysFile:
    try:
        return KeysFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KeysFileError(f"keys file {path}: {error.strerror or error}") from error
    except ValidationError as error:
        # Only place and message: pydantic's own text repeats the input, which may be a key pasted by mistake.
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "top level"
        raise KeysFileError(f"keys file {path}, {place}: {first['msg']}") from error
