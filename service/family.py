"""Models of one task as one: which of them answers under a budget, and when two take turns.

Under a limit the exit with the best validated accuracy among all that fit answers. Under a mean budget it is
the model whose calibrated curve is highest there, unless two models do better in turns: the chord between two
points of the curves' upper hull may pass above every single curve. Turns are an account in FLOPs like the
ledger's: never on credit, and what is not answered is paid back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log

from model_store.flops import dense_flops, direct_flops
from model_store.policy import AIM, Plan, UnaffordableError
from service.engine.loaded import LEVEL, PLANS, LoadedModel
from service.errors import BudgetTooSmall

WORTH_MIXING = 0.0005
"""Calibrated accuracy that taking turns must gain: less is noise, and one model batches better than two."""


@dataclass(frozen=True)
class Point:
    """A mean budget at which a model was calibrated, and the accuracy that it has there."""

    budget: float
    accuracy: float
    model: LoadedModel


@dataclass(frozen=True)
class Turns:
    """Two points that take turns; the richer one answers the share ``weight`` of the requests."""

    poorer: Point
    richer: Point
    weight: float

    @property
    def accuracy(self) -> float:
        """Expected of the mixture."""
        return self.poorer.accuracy + self.weight * (self.richer.accuracy - self.poorer.accuracy)


@dataclass(frozen=True)
class Choice:
    """Who answers a request, and what was taken from the account of a mixture for it.

    Attributes:
        model: That answers.
        plan: How.
        mean: Mean FLOPs per image that the plan is for, or ``None``.
        undo: To be called if no image of the request is answered after all.
        degraded: Whether load made the plan cheaper than asked.
    """

    model: LoadedModel
    plan: Plan
    mean: float | None = None
    undo: Callable[[], None] = lambda: None
    degraded: bool = False


Decision = tuple[tuple[LoadedModel, Plan], Turns | None]
"""The best single model with its plan, and the turns that do better, if any."""


class Family:
    """Models that share a task and its classes.

    Attributes:
        models: All of them.
        hull: The upper hull of their curves.
        one_input: Whether an image is decoded in the same way for each of them.
    """

    def __init__(self, models: Sequence[LoadedModel]) -> None:
        """Compute the upper hull of the curves of ``models``; the default budget is the first one's."""
        self.models = tuple(models)
        self.hull = upper_hull([point for model in models for point in points(model)])
        self.one_input = len({model.manifest.input for model in models}) == 1
        self._budgets = [point.budget for point in self.hull]
        self._floor = min(point.budget for model in models for point in points(model))
        self._accounts: dict[int, float] = {}
        self._decisions: dict[tuple[float | None, float | None, bool], Decision] = {}

    def resolve(
        self,
        mean: float | None,
        limit: float | None,
        *,
        patient: bool,
        single: bool,
        anytime: bool = False,
        shrunk: Callable[[float, float], float] = lambda budget, floor: budget,
    ) -> Choice:
        """The model that answers one request, with its plan.

        Args:
            mean: Mean FLOPs per image, or ``None``.
            limit: FLOPs that no image may exceed, or ``None``.
            patient: Whether no answer need be in hand on the way.
            single: Whether the request is about one image. Several are owed an exact sum, so that one model
                answers them within their own budget.
            anytime: Whether, without budget and limit, time alone decides how deep an image gets.
            shrunk: What load leaves of the default budget, given that and the cheapest that can be answered.

        Raises:
            BudgetTooSmall: No model can meet budget or limit.
        """
        degraded = False
        if mean is None and limit is None:
            default = self.models[0].policy.default_flops
            left = shrunk(default, self._floor)
            degraded = left < default
            if anytime and not degraded:
                return self._deepest(patient)
            mean, single = left, False  # nobody asked for turns
        if len(self.models) == 1:
            model = self.models[0]
            try:
                return Choice(model, model.plan(mean, limit, patient), mean, degraded=degraded)
            except UnaffordableError as error:
                raise BudgetTooSmall(str(error)) from error
        (model, plan), turns = self._decide(mean, limit, patient)
        if turns is not None and single and mean is not None:
            return self._turn(turns, mean, patient)
        return Choice(model, plan, mean, degraded=degraded)

    def _deepest(self, patient: bool) -> Choice:
        """The way to the last exit of the most accurate model that has answers before it."""
        staged = [model for model in self.models if len(model.stages) > 1] or self.models
        model = max(staged, key=lambda model: model.manifest.exits[-1].accuracy)
        # Heads on the way are consulted to have an answer in hand, and cost.
        return Choice(model, model.plan(None, dense_flops(model.stages)[-1], patient))

    def _decide(self, mean: float | None, limit: float | None, patient: bool) -> Decision:
        """The best single model, and the turns that do better, if any; decided once."""
        key = (mean, limit, patient)
        if key in self._decisions:
            return self._decisions[key]
        accuracy, model, plan = self._best_alone(mean, limit, patient)
        turns = None if mean is None or limit is not None else self._turns(mean)
        worth = turns is not None and turns.accuracy > accuracy + WORTH_MIXING
        if len(self._decisions) >= PLANS:
            self._decisions.clear()
        decision = self._decisions[key] = ((model, plan), turns if worth else None)
        return decision

    def _best_alone(
        self, mean: float | None, limit: float | None, patient: bool
    ) -> tuple[float, LoadedModel, Plan]:
        """The plan that is expected to be most accurate; earlier models win ties, and deeper exits."""
        best: tuple[float, LoadedModel, Plan] | None = None
        refused: UnaffordableError | None = None
        for model in self.models:
            try:
                plans = [model.plan(mean, cap, patient) for cap in _caps(model, mean, limit)]
            except UnaffordableError as error:
                refused = error if refused is None or error.cheapest < refused.cheapest else refused
                continue
            for plan in plans:
                accuracy = model.expected_accuracy(plan)
                if best is None or accuracy > best[0]:
                    best = (accuracy, model, plan)
        if best is None:
            raise BudgetTooSmall(str(refused))
        return best

    def _turns(self, mean: float) -> Turns | None:
        """The mixture of the hull's points around ``mean``, if they are of different models."""
        above = bisect_right(self._budgets, mean)
        if not 0 < above < len(self.hull):
            return None
        poorer, richer = self.hull[above - 1], self.hull[above]
        if poorer.model is richer.model:
            return None
        return Turns(poorer, richer, (mean - poorer.budget) / (richer.budget - poorer.budget))

    def _turn(self, turns: Turns, mean: float, patient: bool) -> Choice:
        """Whose turn it is: a request pays ``mean`` into its level's account; the richer draws if it can."""
        level = floor(log(mean) / log(LEVEL))
        paid = self._accounts.get(level, 0.0) + mean
        point = turns.richer if paid >= turns.richer.budget else turns.poorer
        self._accounts[level] = paid - point.budget

        def undo() -> None:
            self._accounts[level] += point.budget - mean

        return Choice(point.model, point.model.plan(point.budget, None, patient), point.budget, undo)


def _caps(model: LoadedModel, mean: float | None, limit: float | None) -> list[float | None]:
    """Limits to try: with a limit alone each exit that fits, the deepest first; deeper may be worse."""
    if mean is not None or limit is None:
        return [limit]
    fitting: list[float | None] = [cost for cost in direct_flops(model.stages) if cost <= limit]
    return fitting[::-1] or [limit]


def points(model: LoadedModel) -> list[Point]:
    """The calibrated points of ``model`` by the budget that reaches each.

    Where images differ in cost the ledger aims below the budget; where all cost the same they are equal.
    """
    found = []
    for segment in model.policy.segments:
        margin = 1.0 if len(segment.exits) == 1 else AIM
        found += [Point(entry.mean_flops / margin, entry.accuracy, model) for entry in segment.entries]
    return found


def upper_hull(given: Sequence[Point]) -> list[Point]:
    """Points of the smallest concave rising curve above all of ``given``, by rising budget."""
    hull: list[Point] = []
    for point in sorted(given, key=lambda point: (point.budget, -point.accuracy)):
        if hull and point.accuracy <= hull[-1].accuracy:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(one: Point, other: Point) -> float:
    return (other.accuracy - one.accuracy) / (other.budget - one.budget)
