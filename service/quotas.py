"""What a key may spend: the contract of a quota's account, and the account of a single process.

Times are arguments, in seconds of one monotonic clock. Not thread-safe: the event loop owns all of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final, Protocol

from service.errors import QuotaExhausted

MOST_FLOPS: Final = 10**15
"""Highest rate and burst of a quota: up to here every account is exact, see ``service.quota_scripts``."""

NANO: Final = 10**9
"""Accounts of this process are in billionths of a FLOP, times in billionths of a second."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """FLOPs set aside for one request until it is settled.

    Attributes:
        flops: How many, whole ones.
        id: Under which a shared account holds them; empty for an account of this process.
    """

    flops: int
    id: str = ""


class Bucket(Protocol):
    """An allowance of FLOPs: a rate, and a burst that can be saved up. Starts full.

    A request reserves what it may cost before it runs, and settles afterwards. A reservation larger than the
    burst is admitted when the bucket is full and leaves a debt, as does spending beyond a reservation.

    Bound: in any window of T seconds, at most rate·T + max(burst, largest single reservation) is spent.
    """

    async def reserve(self, flops: float, now_s: float) -> Reservation:
        """Take ``flops``, rounded up to whole ones.

        Raises:
            QuotaExhausted: They are not there yet; ``Retry-After`` says when they will be if none are taken.
            ValueError: ``flops`` is negative or not finite.
        """

    async def settle(self, reservation: Reservation, spent: float, now_s: float) -> int:
        """Close a reservation, once, and return the FLOPs given back, negative if overspent.

        Raises:
            ValueError: ``spent`` is negative or not finite.
        """


class TokenBucket:
    """The account of one process; see ``Bucket``. Its coroutines never wait.

    Accounts are whole numbers: rounding errors do not add up.
    """

    def __init__(self, flops_per_second: int, burst_flops: int) -> None:
        """Fill a bucket; both arguments are positive."""
        self.flops_per_second = flops_per_second
        self.burst_flops = burst_flops
        self._level = burst_flops * NANO
        self._held = 0  # reserved and not yet settled
        self._updated_ns: int | None = None

    async def reserve(self, flops: float, now_s: float) -> Reservation:
        """See ``Bucket``."""
        wanted = whole_flops(flops)
        self._regain(now_s)
        if min(wanted, self.burst_flops) * NANO > self._level:
            raise exhausted(wanted, self._level, self.flops_per_second, self.burst_flops)
        self._level -= wanted * NANO
        self._held += wanted * NANO
        return Reservation(wanted)

    async def settle(self, reservation: Reservation, spent: float, now_s: float) -> int:
        """See ``Bucket``."""
        refund = reservation.flops - whole_flops(spent)
        self._regain(now_s)
        self._held -= reservation.flops * NANO
        self._level = min(self._level + refund * NANO, self.burst_flops * NANO)
        return refund

    def resume(self, left: int, now_s: float) -> None:
        """Go on from the ``left`` FLOPs that another account has now; what is held here stays held."""
        self._regain(now_s)
        self._level = min(left * NANO, self.burst_flops * NANO - self._held)

    def _regain(self, now_s: float) -> None:
        # Rounding times, not differences of times: what is regained adds up however often this is called.
        now_ns = round(now_s * NANO)
        if self._updated_ns is not None:
            elapsed_ns = max(0, now_ns - self._updated_ns)
            # What is held may come back, and must not find its place taken by what was regained.
            most = max(self._level, self.burst_flops * NANO - self._held)
            self._level = min(self._level + elapsed_ns * self.flops_per_second, most)
            now_ns = self._updated_ns + elapsed_ns  # a time before the last one regains nothing, now or later
        self._updated_ns = now_ns


def whole_flops(flops: float) -> int:
    """Round up to whole FLOPs.

    Raises:
        ValueError: ``flops`` is negative or not finite.
    """
    if not 0 <= flops < float("inf"):
        raise ValueError(f"FLOPs must be finite and not negative, got {flops}")
    return ceil(flops)


def exhausted(wanted: int, level: int, flops_per_second: int, burst_flops: int) -> QuotaExhausted:
    """The refusal of ``wanted`` FLOPs where ``level`` billionths of a FLOP are left."""
    missing = min(wanted, burst_flops) * NANO - level
    return QuotaExhausted(
        f"this request reserves {wanted} FLOPs; the key has {max(0, level // NANO)} of {burst_flops} left "
        f"and regains {flops_per_second} per second",
        retry_after_s=-(-missing // (flops_per_second * NANO)),
    )
