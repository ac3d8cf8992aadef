"""The ledger: keeps the realised mean of a budget level at its budget, whatever the traffic.

Calibrated thresholds meet a mean budget on images like the calibration rows. The ledger holds it on others.
It is an account in FLOPs: every image pays in its budget (a little less, see ``ACCRUAL``) and draws what it
spends, and nobody continues on credit that is not there. While the account is in its normal range the ledger
changes nothing, so an image's exit follows from image, policy and budget alone; thresholds move only when it
runs low or overflows.

Bound: with balances in [0, CAPACITY·B] and ACCRUAL·B paid in per image, the spending of any n consecutive
images is at most n·ACCRUAL·B + CAPACITY·B, which is n·B for n = CAPACITY / (1 - ACCRUAL) = 5,000.
"""

from __future__ import annotations

from math import exp

from model_store.policy import AIM, Plan

ACCRUAL = 0.99
"""Share of its budget that an image pays in; above ``AIM``, so that normal traffic keeps the account full."""

CAPACITY = 50.0
"""Largest balance, in budgets: large enough that calibrated traffic practically never empties it."""

LOW = 0.2
"""Filling below which thresholds move towards the first exit, in proportion."""

SURPLUS_NORMAL = 0.025
"""Overflow per image, in budgets, that aiming below the budget explains."""

SURPLUS_RATE = 1e-3
"""Change of ``log(effective budget)`` per budget of unexplained overflow."""

SURPLUS_DEAD = 0.05
"""Accumulated change that is still taken for noise."""

SURPLUS_MOST = 2.0
"""Largest accumulated change."""


class Ledger:
    """Account of one budget level. Not thread-safe: the thread that decides exits owns it."""

    def __init__(self) -> None:
        """Open a full account."""
        self.filling = 1.0
        self._surplus = 0.0

    def arrive(self, budget: float, spent: float) -> None:
        """Enter an image that has reached its first consulted exit.

        Args:
            budget: Mean FLOPs per image of its request.
            spent: FLOPs spent so far.
        """
        filling = self.filling + (ACCRUAL - spent / budget) / CAPACITY
        overflow = max(0.0, filling - 1.0) * CAPACITY
        moved = self._surplus + (overflow - SURPLUS_NORMAL) * SURPLUS_RATE
        self._surplus = min(max(moved, 0.0), SURPLUS_MOST + SURPLUS_DEAD)
        self.filling = min(max(filling, 0.0), 1.0)

    def draw(self, budget: float, flops: float) -> bool:
        """Take ``flops`` for the way to the next exit; ``False``, and nothing taken, if there is less."""
        share = flops / (budget * CAPACITY)
        if share > self.filling:
            return False
        self.filling -= share
        return True

    @property
    def normal(self) -> bool:
        """Whether nominal thresholds apply."""
        return self.filling >= LOW and self._surplus <= SURPLUS_DEAD

    def thresholds(self, plan: Plan) -> tuple[float, ...]:
        """The thresholds that hold now for an image of ``plan``, a plan with a budget."""
        if self.normal or plan.budget is None:
            return plan.thresholds
        aim, first = plan.budget * AIM, plan.costs[0]
        if self.filling < LOW:
            return plan.thresholds_at(first + (aim - first) * self.filling / LOW)
        return plan.thresholds_at(aim * exp(self._surplus - SURPLUS_DEAD))
