"""Brownout: under load, requests that named no budget of their own get less of one instead of a refusal."""

from __future__ import annotations

STEPS = 8
"""Steps from the default budget to the floor."""

HIGH, LOW = 0.4, 0.1
"""Waits for the first launch, in shares of the latency objective: longer ones shrink the budget by a step,
shorter ones give a step back. What is between is the room in which load may vary."""

PAUSE = 0.25
"""Least time between two steps, in latency objectives: a step has to show before the next."""


class Brownout:
    """How far budgets are shrunk now. Observed by the worker's thread, read by the event loop."""

    def __init__(self, objective_s: float, enabled: bool = True) -> None:
        """Aim at answers within ``objective_s`` seconds; not ``enabled``, the step stays 0."""
        self._step = 0
        self._objective_s, self._enabled = objective_s, enabled
        self._changed_s = self._seen_s = float("-inf")

    def observe(self, waited_s: float, now_s: float) -> None:
        """Enter how long an image has waited for its first launch, at most one step follows.

        Args:
            waited_s: Seconds; of the longest waiting in a batch.
            now_s: Monotonic seconds.
        """
        step, self._seen_s = self.step(now_s), now_s
        if not self._enabled or now_s - self._changed_s < PAUSE * self._objective_s:
            return
        wanted = step + (waited_s > HIGH * self._objective_s) - (waited_s < LOW * self._objective_s)
        if wanted != self._step:
            self._step, self._changed_s = min(max(wanted, 0), STEPS), now_s

    def step(self, now_s: float) -> int:
        """0 for budgets as they are, ``STEPS`` for the floor; 0 also once nothing has come for a while."""
        return self._step if now_s - self._seen_s < self._objective_s else 0

    def shrunk(self, budget: float, floor: float, now_s: float) -> float:
        """What is left of ``budget`` FLOPs, evenly in proportion between it and ``floor``."""
        step = self.step(now_s)
        return float(budget * (floor / budget) ** (step / STEPS)) if step and floor < budget else budget
