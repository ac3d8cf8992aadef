"""Brownout: under load, requests that named no budget of their own get less of one instead of a refusal."""

from __future__ import annotations

STEPS = 8
"""Steps from the default budget to the floor."""

HIGH, LOW = 0.2, 0.05
"""Waits, in shares of the latency objective: longer ones shrink the budget by a step, shorter ones give a
step back. What is between is the room in which load may vary."""

DOWN, UP = 1 / 16, 1 / 2
"""Least time from one step to the next, in latency objectives. At three times the capacity waits grow by two
thirds of an objective in each; all steps down fit into half of one. Back it goes slowly: the load that made
the budgets shrink may still be there, and only be met by what they are now."""


class Brownout:
    """How far budgets are shrunk now.

    The worker's thread tells how long images waited for it, the event loop how long their answers did.
    """

    def __init__(self, objective_s: float, enabled: bool = True) -> None:
        """Aim at answers within ``objective_s`` seconds; not ``enabled``, the step stays 0."""
        self._step = 0
        self._objective_s, self._enabled = objective_s, enabled
        self._changed_s = self._seen_s = self._strained_s = float("-inf")

    def observe(self, waited_s: float, now_s: float) -> None:
        """Enter how long an image or an answer has waited, at most one step follows.

        Args:
            waited_s: Seconds; of the longest waiting in a batch.
            now_s: Monotonic seconds.
        """
        step, self._seen_s = self.step(now_s), now_s
        if waited_s > LOW * self._objective_s:
            self._strained_s = now_s
        if not self._enabled:
            return
        if waited_s > HIGH * self._objective_s and now_s - self._changed_s >= DOWN * self._objective_s:
            self._step, self._changed_s = min(step + 1, STEPS), now_s
        elif step and now_s - max(self._strained_s, self._changed_s) >= UP * self._objective_s:
            self._step, self._changed_s = step - 1, now_s

    def step(self, now_s: float) -> int:
        """0 for budgets as they are, ``STEPS`` for the floor; 0 also once nothing has come for a while."""
        return self._step if now_s - self._seen_s < self._objective_s else 0

    def shrunk(self, budget: float, floor: float, now_s: float) -> float:
        """What is left of ``budget`` FLOPs, evenly in proportion between it and ``floor``."""
        step = self.step(now_s)
        return float(budget * (floor / budget) ** (step / STEPS)) if step and floor < budget else budget
