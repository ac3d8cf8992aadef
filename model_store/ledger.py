"""The ledger: keeps the realised mean of a budget level just below its budget, whatever the traffic.

Calibrated thresholds meet a mean budget up to the error of a few thousand held-out rows, some per cent. The
ledger removes that error, and holds the mean on traffic that is harder or easier. It is an account in FLOPs:
every image pays in ``AIM`` of its budget and draws what it spends, and nobody continues on credit that is not
there. Near zero the ledger changes nothing: an image's exit follows from image, policy and budget alone.
Beyond that the balance moves thresholds in few fixed steps, small ones first, in both directions.

The step is a function of the balance alone, without hysteresis or blocks: when two servers see the same
images in slightly different orders their sums, and with them their thresholds, meet again at once, and a path
taken earlier is not remembered. Simulated on cross-fitted policies of cifar10-fusion@2 (8 fits, 9 budgets,
140 streams of 10,000 held-out rows): 99.15 to 99.44 % of the budget is spent, 1.1 % of the exits are
not the nominal ones, and 0.3 % differ where rows arrive up to 16 places late. Steps that change only every
50 to 200 images were no calmer (0.2 to 0.35 % in a smaller run, against 0.23 %); hysteresis of one step was a
little (0.2 %), but kept thresholds moved for 98 % of the images instead of 75 %.

Bound: a plan with a budget costs at most ``AIM`` of it up to the first exit (``policy.make_plan``), so only
``draw`` lowers a balance, never below -RESERVE, and ``arrive`` never lifts it above RESERVE. Between any two
moments, n arrivals apart, at most n * AIM + 2 * RESERVE budgets are spent, which is n for
n = 2 * RESERVE / (1 - AIM) = WINDOW and less for larger n. And after n images no less than
n * AIM - RESERVE budgets are spent unless credit overflows, that is, unless even the richest thresholds do
not use it.
"""

from __future__ import annotations

from model_store.policy import AIM, Plan

WINDOW = 5_000
"""Images over which the mean never exceeds the budget, wherever the window begins."""

RESERVE = WINDOW * (1 - AIM) / 2
"""Largest credit and largest debt, in budgets: as much as the bound over ``WINDOW`` allows, 17.5."""

STEP = 3.0
"""Width of one step of the balance, in budgets; within one step of zero nominal thresholds apply."""

SHARES = (1.0, 0.95, 0.9, 0.8, 0.5, 0.1)
"""What a debt of 0, 1, 2, ... steps leaves of the FLOPs beyond the first exit; credit divides by it.

Relative to those FLOPs, because the variance of the spending is proportional to them: the same table then
suits cheap and rich budgets. The first steps correct errors of calibration, the last ones shifts of traffic.
"""


class Ledger:
    """Account of one budget level. Not thread-safe: the thread that decides exits owns it.

    Attributes:
        balance: Credit, or debt if negative, in budgets.
    """

    def __init__(self) -> None:
        """Open an empty account."""
        self.balance = 0.0

    def arrive(self, budget: float, spent: float) -> None:
        """Enter an image that has reached its first consulted exit.

        Args:
            budget: Mean FLOPs per image of its request.
            spent: FLOPs spent so far, at most ``AIM`` of the budget.
        """
        self.balance = min(self.balance + AIM - spent / budget, RESERVE)

    def draw(self, budget: float, flops: float) -> bool:
        """Take ``flops`` for the way to the next exit; ``False``, and nothing taken, if there is less."""
        left = self.balance - flops / budget
        if left < -RESERVE:
            return False
        self.balance = left
        return True

    def give_back(self, budget: float, flops: float) -> None:
        """Return what was drawn for a way that was not gone after all."""
        self.balance = min(self.balance + flops / budget, RESERVE)

    @property
    def steps(self) -> int:
        """How far thresholds are moved: 0 for nominal ones, negative towards the first exit."""
        most = len(SHARES) - 1
        return min(max(int(self.balance / STEP), -most), most)

    def thresholds(self, plan: Plan) -> tuple[float, ...]:
        """The thresholds that hold now for an image of ``plan``, a plan with a budget."""
        steps = self.steps
        if steps == 0 or plan.budget is None:
            return plan.thresholds
        share = SHARES[-steps] if steps < 0 else 1 / SHARES[steps]
        first = plan.costs[0]
        return plan.thresholds_at(first + (plan.budget * AIM - first) * share)
