"""Brownout: under load, requests that named no budget of their own get less of one instead of a refusal."""

from __future__ import annotations

from math import ceil, exp, inf

STEPS = 8
"""Steps from the default budget to the floor."""

BEGIN, FULL = 0.1, 0.3
"""Waits, in shares of the latency objective: from the one on budgets shrink, from the other on they are at
the floor. Early, since who comes by then waits longer: at three times the capacity three times as long."""

MOST = 2 * FULL
"""The highest pressure: beyond, a longer wait only takes longer to forget."""

FADING = 4.0
"""Time in which pressure falls to 37 %, in objectives. Slowly, since the load that made the budgets shrink
may still be there and only be met by what they are now."""


class Brownout:
    """How far budgets are shrunk now: by the longest wait of late, the less the longer it is ago.

    The worker's thread tells how long requests waited for it, the event loop how long their answers did.
    """

    def __init__(self, objective_s: float, enabled: bool = True) -> None:
        """Aim at answers within ``objective_s`` seconds; not ``enabled``, the step stays 0."""
        self._objective_s, self._enabled = objective_s, enabled
        # One object, since two threads write it: at worst a wait is lost, and the next one comes soon.
        self._noted = (0.0, -inf)  # pressure, when

    def observe(self, waited_s: float, now_s: float) -> None:
        """Enter how long a request or its answer has waited.

        Args:
            waited_s: Seconds; of the longest waiting in a batch.
            now_s: Monotonic seconds.
        """
        pressure = min(waited_s / self._objective_s, MOST)
        if pressure >= self._pressure(now_s):
            self._noted = (pressure, now_s)

    def step(self, now_s: float) -> int:
        """0 for budgets as they are, ``STEPS`` for the floor."""
        if not self._enabled:
            return 0
        share = (self._pressure(now_s) - BEGIN) / (FULL - BEGIN)
        return min(max(ceil(STEPS * share), 0), STEPS)

    def strength(self, now_s: float) -> float:
        """0 for budgets as they are, 1 for the floor; for the metrics. Any thread may ask."""
        return self.step(now_s) / STEPS

    def shrunk(self, budget: float, floor: float, now_s: float) -> float:
        """What is left of ``budget`` FLOPs, evenly in proportion between it and ``floor``."""
        step = self.step(now_s)
        return float(budget * (floor / budget) ** (step / STEPS)) if step and floor < budget else budget

    def _pressure(self, now_s: float) -> float:
        pressure, noted_s = self._noted
        return pressure * exp(-max(0.0, now_s - noted_s) / (FADING * self._objective_s))
