"""Models of one task as one: which of them answers under a budget, and when two take turns.

Under a limit the model with the best validated accuracy that fits answers. Under a mean budget it is the one
whose calibrated curve is highest there, unless two models between whose budgets it lies do better in turns:
the chord between two points of the curves' upper hull may pass above every single curve.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor, log

from model_store.policy import AIM, Plan, UnaffordableError
from service.engine.loaded import LEVEL, LoadedModel
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


class Family:
    """Models that share a task."""

    def __init__(self, models: Sequence[LoadedModel]) -> None:
        """Compute the upper hull of the curves of ``models``; the default budget is the first one's."""
        self.models = tuple(models)
        self.hull = upper_hull([point for model in models for point in points(model)])
        self._budgets = [point.budget for point in self.hull]
        self._phases: dict[int, float] = {}
        self._decide = lru_cache(maxsize=4096)(self._decision)

    def resolve(
        self, mean: float | None, limit: float | None, patient: bool, single: bool
    ) -> tuple[LoadedModel, Plan]:
        """The model that answers one request, with its plan.

        Args:
            mean: Mean FLOPs per image, or ``None``.
            limit: FLOPs that no image may exceed, or ``None``.
            patient: Whether there is no deadline.
            single: Whether the request is about one image. Several are owed an exact sum, so that one model
                answers them within their own budget.

        Raises:
            BudgetTooSmall: No model can meet budget or limit.
        """
        if len(self.models) == 1:
            try:
                return self.models[0], self.models[0].plan(mean, limit, patient)
            except UnaffordableError as error:
                raise BudgetTooSmall(str(error)) from error
        if mean is None and limit is None:
            mean = self.models[0].policy.default_flops
        decision = self._decide(mean, limit, patient)
        if isinstance(decision, Turns) and single and mean is not None:
            point = self._turn(decision, mean)
            return point.model, point.model.plan(point.budget, None, patient)
        model = self._best_alone(mean, limit, patient)[0] if isinstance(decision, Turns) else decision[0]
        return model, model.plan(mean, limit, patient)

    def _decision(
        self, mean: float | None, limit: float | None, patient: bool
    ) -> Turns | tuple[LoadedModel, float]:
        alone = self._best_alone(mean, limit, patient)
        turns = None if mean is None or limit is not None else self._turns(mean)
        return turns if turns is not None and turns.accuracy > alone[1] + WORTH_MIXING else alone

    def _best_alone(
        self, mean: float | None, limit: float | None, patient: bool
    ) -> tuple[LoadedModel, float]:
        """The model that is expected to be most accurate, and how accurate; earlier ones win ties."""
        best: tuple[LoadedModel, float] | None = None
        refused: UnaffordableError | None = None
        for model in self.models:
            try:
                accuracy = model.expected_accuracy(model.plan(mean, limit, patient))
            except UnaffordableError as error:
                refused = error if refused is None or error.cheapest < refused.cheapest else refused
                continue
            if best is None or accuracy > best[1]:
                best = (model, accuracy)
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

    def _turn(self, turns: Turns, mean: float) -> Point:
        """Whose turn it is: the weights of a budget level add up, and each whole one is the richer's turn."""
        level = floor(log(mean) / log(LEVEL))
        phase = self._phases.get(level, 0.0) + turns.weight
        self._phases[level] = phase % 1.0
        return turns.richer if phase >= 1.0 else turns.poorer


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
