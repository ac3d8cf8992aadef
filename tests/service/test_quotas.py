"""What the quota of a key lets through, in one process."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import QuotaExhausted
from service.quotas import Bucket, Reservation, TokenBucket
from service.settings import Settings

RATE, BURST = 1_000, 2_000


async def spend(bucket: Bucket, flops: float, now_s: float) -> int:
    """Reserve and settle at once: all of it is spent."""
    reservation = await bucket.reserve(flops, now_s)
    await bucket.settle(reservation, reservation.flops, now_s)
    return reservation.flops


async def refused(bucket: Bucket, flops: float, now_s: float) -> bool:
    try:
        await bucket.reserve(flops, now_s)
    except QuotaExhausted:
        return True
    return False


async def test_a_bucket_starts_full_regains_at_its_rate_and_never_holds_more_than_the_burst() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert [await spend(bucket, 1_500, 10.0), await spend(bucket, 199.5, 10.0)] == [1_500, 200]
    with pytest.raises(QuotaExhausted, match="reserves 400 FLOPs; the key has 300 of 2000 left"):
        await spend(bucket, 400, 10.0)
    assert await spend(bucket, 300, 10.0) == 300  # the refusal took nothing
    assert await spend(bucket, 250, 10.25) == 250
    assert await spend(bucket, BURST, 1e6) == BURST
    assert await refused(bucket, 1, 1e6)


@pytest.mark.parametrize(("spent", "refund"), [(0, 2_000), (300, 1_700), (10.1, 1_989), (2_000, 0)])
async def test_what_was_not_spent_is_given_back_but_never_overfills_the_bucket(
    spent: float, refund: int
) -> None:
    bucket = TokenBucket(RATE, BURST)
    assert await bucket.settle(await bucket.reserve(BURST, 0.0), spent, 0.0) == refund
    assert (await bucket.reserve(refund, 0.0)).flops == refund
    await bucket.settle(Reservation(BURST), 0, 60.0)
    assert (await bucket.reserve(BURST, 60.0)).flops == BURST
    assert await refused(bucket, 1, 60.0)


FLOPS = st.integers(1, 10**13)


@given(rate=FLOPS, burst=FLOPS, first=FLOPS, second=FLOPS)
async def test_after_retry_after_and_not_a_second_earlier_the_request_is_admitted(
    rate: int, burst: int, first: int, second: int
) -> None:
    bucket = TokenBucket(rate, burst)
    await spend(bucket, first, 0.0)
    try:
        await spend(bucket, second, 0.0)
    except QuotaExhausted as error:
        wait_s = int(error.headers["Retry-After"])
        assert wait_s == 1 or await refused(bucket, second, wait_s - 1)
        assert await spend(bucket, second, wait_s) == second


async def test_a_reservation_larger_than_the_burst_needs_a_full_bucket_and_leaves_a_debt() -> None:
    bucket = TokenBucket(RATE, BURST)
    await spend(bucket, 1, 0.0)
    assert await refused(bucket, 5_000, 0.0)
    assert await spend(bucket, 5_000, 0.001) == 5_000
    with pytest.raises(QuotaExhausted, match="has 0 of 2000") as caught:
        await spend(bucket, 1, 0.001)
    assert caught.value.headers["Retry-After"] == "4"
    assert await spend(bucket, 1_000, 4.001) == 1_000


async def test_spending_beyond_the_reservation_is_owed() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert await bucket.settle(await bucket.reserve(BURST, 0.0), BURST + 500, 0.0) == -500
    assert await refused(bucket, 1, 0.5)
    assert (await bucket.reserve(1, 0.501)).flops == 1


@pytest.mark.parametrize("flops", [-1, float("nan"), float("inf"), -float("inf")])
async def test_nonsense_flops_are_refused_and_change_nothing(flops: float) -> None:
    bucket = TokenBucket(RATE, BURST)
    with pytest.raises(ValueError, match="finite and not negative"):
        await bucket.reserve(flops, 0.0)
    with pytest.raises(ValueError, match="finite and not negative"):
        await bucket.settle(Reservation(5), flops, 0.0)
    assert (await bucket.reserve(BURST, 0.0)).flops == BURST


async def test_many_small_steps_regain_as_much_as_one_large_one_and_a_step_back_nothing() -> None:
    bucket = TokenBucket(999_999_937, 10**12)
    await spend(bucket, 10**12, 0.0)
    for step in range(1, 10_001):
        await bucket.settle(Reservation(0), 0, step / 10_000)
    assert await spend(bucket, 1, 1.0) + await spend(bucket, 999_999_936, 0.5) == 999_999_937
    assert [await refused(bucket, 1, now_s) for now_s in (1.0, 0.5, 1.0)] == [True] * 3


async def test_a_bucket_goes_on_from_the_level_of_another_one_and_keeps_what_it_holds() -> None:
    bucket = TokenBucket(RATE, BURST)
    bucket.resume(700, 5.0)
    assert await refused(bucket, 701, 5.0)
    held = await bucket.reserve(500, 5.0)
    bucket.resume(BURST, 6.0)
    assert await refused(bucket, 1_501, 6.0)
    assert await bucket.settle(held, 0, 6.0) == 500
    assert await spend(bucket, BURST, 6.0) == BURST


# Nanoseconds since the last step, FLOPs to reserve, share of that to spend, reservations to settle first.
Step = tuple[int, float, float, int]
STEP = st.tuples(st.integers(0, 3 * 10**9), st.floats(0, 6_000), st.floats(0, 1), st.integers(0, 3))


async def admitted(bucket: Bucket, steps: list[Step]) -> list[tuple[int, int, int]]:
    """Play ``steps``: nanoseconds, FLOPs reserved and FLOPs spent of each admission."""
    now_ns, settled = 0, 0
    log, reservations = list[tuple[int, int, int]](), list[Reservation]()
    for elapsed_ns, flops, share, settle in steps:
        now_ns += elapsed_ns
        for _, reserved, spent in log[settled : settled + settle]:
            assert await bucket.settle(reservations[settled], spent, now_ns / 1e9) == reserved - spent
            settled += 1
        with suppress(QuotaExhausted):
            reservations.append(await bucket.reserve(flops, now_ns / 1e9))
            reserved = reservations[-1].flops
            log.append((now_ns, reserved, int(reserved * share)))
    return log


async def test_a_refund_does_not_come_on_top_of_what_was_regained_while_it_was_held() -> None:
    bucket = TokenBucket(1, 1)
    held = await bucket.reserve(1, 0.0)
    assert await refused(bucket, 1, 1.0)
    await bucket.settle(held, 0, 1.0)
    assert (await bucket.reserve(1, 1.0)).flops == 1
    assert await refused(bucket, 1, 1.0)


@given(rate=st.integers(1, 5_000), burst=st.integers(1, 5_000), steps=st.lists(STEP, max_size=40))
async def test_spending_in_every_window_is_at_most_the_burst_and_what_the_rate_regains(
    rate: int, burst: int, steps: list[Step]
) -> None:
    log = await admitted(TokenBucket(rate, burst), steps)
    for first, (start_ns, _, _) in enumerate(log):
        spent = largest = 0
        for end_ns, reserved, used in log[first:]:
            largest = max(largest, reserved)
            # In billionths, so that nothing is rounded. The last one counts with all that it may still spend.
            assert (spent + reserved) * 10**9 <= max(burst, largest) * 10**9 + rate * (end_ns - start_ns)
            spent += used


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://127.0.0.1:6379/0?colour=red", "colour"),
        ("redis://127.0.0.1:6379/0?db=first", "db"),
        ("http://127.0.0.1:6379", "redis"),
    ],
)
def test_a_url_that_no_connection_can_use_is_refused_at_the_start(url: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings(redis_url=url)  # type: ignore[arg-type]
