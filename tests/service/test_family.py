"""Models of one task: the best one under a budget, turns where the hull passes above all curves."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest
from conftest import small_manifest, small_net
from hypothesis import given
from hypothesis import strategies as st

from model_store.flops import StageFlops
from model_store.manifest import ExitSpec, Manifest
from model_store.policy import Policy, PolicyEntry, PolicySegment
from service.engine.executors import Executor
from service.engine.loaded import LoadedModel
from service.errors import BudgetTooSmall
from service.family import WORTH_MIXING, Family, points, upper_hull

BASE = small_manifest(small_net())[0]


def model(name: str, *exits: tuple[int, float]) -> LoadedModel:
    """A model whose exits cost and know what ``exits`` say; its policy takes each exit alone."""
    costs = [cost for cost, _ in exits]
    stages = [
        StageFlops(cost - before - 1 + (k > 0), 1)
        for k, (before, cost) in enumerate(zip([0, *costs], costs, strict=False))
    ]
    segments = tuple(
        PolicySegment(
            exits=(k,),
            entries=(PolicyEntry(mean_flops=cost, accuracy=accuracy, thresholds=(), shares=(1.0,)),),
        )
        for k, (cost, accuracy) in enumerate(exits, start=1)
    )
    manifest = Manifest.model_validate(
        {
            **BASE.model_dump(),
            "name": name,
            "exits": [
                ExitSpec(block_flops=stage.block, head_flops=stage.head, accuracy=accuracy)
                for stage, (_, accuracy) in zip(stages, exits, strict=True)
            ],
            "policy": Policy(confidence="probability", default_flops=costs[-1], segments=segments),
        }
    )
    return LoadedModel(manifest, cast(Executor, None))


SMALL = model("small", (1_000, 0.80))
LARGE = model("large", (3_000, 0.86), (5_000, 0.90))


def test_a_family_knows_whether_its_models_see_images_alike() -> None:
    other = model("other", (2_000, 0.70))
    larger = BASE.input.model_copy(update={"resize": BASE.input.resize + 1})
    other.manifest = other.manifest.model_copy(update={"input": larger})
    assert Family([SMALL, LARGE]).one_input and not Family([SMALL, other]).one_input


def test_under_a_limit_the_most_accurate_exit_that_fits_answers() -> None:
    worse = model("worse", (2_000, 0.70))
    family = Family([worse, SMALL, LARGE])
    limits = (1_500, 2_500, 4_000, 9_000)
    chosen = {limit: family.resolve(None, limit, patient=True, single=True).model.name for limit in limits}
    assert chosen == {1_500: "small", 2_500: "small", 4_000: "large", 9_000: "large"}
    assert family.resolve(None, 4_000, patient=True, single=True).plan.exits == (0,)


def test_between_two_models_requests_take_turns_so_that_the_mean_is_met() -> None:
    family = Family([SMALL, LARGE])
    spent = []
    for _ in range(1_000):
        spent.append(family.resolve(1_500, None, patient=True, single=True).plan.costs[-1])
    assert Counter(spent) == {1_000: 750, 3_000: 250}
    assert sum(spent) / len(spent) == 1_500


def test_requests_that_are_not_answered_take_no_turn() -> None:
    family = Family([SMALL, LARGE])
    answered = []
    for number in range(2_000):
        choice = family.resolve(1_500, None, patient=True, single=True)
        if number % 2 == 0:
            answered.append(choice.plan.costs[-1])
        else:
            choice.undo()
    assert sum(answered) <= 1_500 * len(answered)
    assert sum(answered) > 1_490 * len(answered)


def test_a_deeper_exit_that_knows_less_is_not_taken_under_a_limit() -> None:
    falling = model("falling", (1_000, 0.9), (2_000, 0.8))
    assert Family([SMALL, falling]).resolve(None, 5_000, patient=True, single=True).plan.exits == (0,)


def test_several_images_are_answered_by_one_model_within_their_own_budget() -> None:
    family = Family([SMALL, LARGE])
    for _ in range(10):
        choice = family.resolve(1_900, None, patient=True, single=False)
        assert choice.model is SMALL and choice.plan.costs[-1] <= 1_900


def test_a_budget_and_a_limit_together_are_met_by_one_model() -> None:
    family = Family([SMALL, LARGE])
    chosen = [family.resolve(1_900, 4_000, patient=True, single=True).model for _ in range(10)]
    assert chosen == [SMALL] * 10


def test_without_a_budget_the_first_models_default_holds() -> None:
    assert Family([SMALL, LARGE]).resolve(None, None, patient=True, single=True).plan.costs == (1_000,)
    assert Family([LARGE, SMALL]).resolve(None, None, patient=True, single=True).model is LARGE


@pytest.mark.parametrize("models", [[SMALL, LARGE], [LARGE]])
def test_what_nobody_can_meet_is_refused_with_the_cheapest_exit(models: list[LoadedModel]) -> None:
    cheapest = min(exit_.block_flops + exit_.head_flops for one in models for exit_ in one.manifest.exits[:1])
    with pytest.raises(BudgetTooSmall, match=f"costs {cheapest} FLOPs"):
        Family(models).resolve(500, None, patient=True, single=True)


CURVES = st.lists(
    st.lists(
        st.tuples(st.integers(10, 10_000), st.floats(0.1, 0.99)),
        min_size=1,
        max_size=4,
        unique_by=lambda p: p[0],
    ).map(sorted),
    min_size=1,
    max_size=4,
)


@given(CURVES, st.integers(10, 12_000))
def test_the_familys_curve_is_nowhere_below_a_members(
    curves: list[list[tuple[int, float]]], budget: int
) -> None:
    models = [model(f"m{i}", *curve) for i, curve in enumerate(curves)]
    affordable = [
        accuracy for curve in curves for cost, accuracy in curve[::-1][-1:] + curve if cost <= budget
    ]
    family = Family(models)
    if not affordable:
        with pytest.raises(BudgetTooSmall):
            family.resolve(budget, None, patient=True, single=True)
        return
    rounds, expected, spent = 400, 0.0, 0.0
    for _ in range(rounds):
        choice = family.resolve(budget, None, patient=True, single=True)
        expected += choice.model.expected_accuracy(choice.plan)
        spent += choice.plan.costs[-1]
    best = max(one.expected_accuracy(one.plan(budget, None, True)) for one in models if _pays(one, budget))
    late = max(accuracy for curve in curves for _, accuracy in curve) * _wait(curves, budget) / rounds
    assert expected / rounds >= best - WORTH_MIXING - late
    assert spent <= budget * rounds


def _wait(curves: list[list[tuple[int, float]]], budget: int) -> float:
    """Requests of a level before the richest model can be paid for the first time."""
    return max(cost for curve in curves for cost, _ in curve) / budget


def _pays(one: LoadedModel, budget: float) -> bool:
    return min(stage.block + stage.head for stage in one.stages[:1]) <= budget


@given(CURVES)
def test_the_hull_is_concave_rising_and_above_all_points(curves: list[list[tuple[int, float]]]) -> None:
    given_points = [point for i, curve in enumerate(curves) for point in points(model(f"m{i}", *curve))]
    hull = upper_hull(given_points)
    for one, other, last in zip(hull, hull[1:], hull[2:], strict=False):
        rise = (other.accuracy - one.accuracy) / (other.budget - one.budget)
        assert rise > (last.accuracy - other.accuracy) / (last.budget - other.budget)
    for point in given_points:
        below = [h for h in hull if h.budget <= point.budget]
        above = [h for h in hull if h.budget >= point.budget]
        assert below
        value = below[-1].accuracy
        if above and above[0].budget > below[-1].budget:
            way = (point.budget - below[-1].budget) / (above[0].budget - below[-1].budget)
            value += way * (above[0].accuracy - below[-1].accuracy)
        assert value >= point.accuracy - 1e-9


def test_with_a_deadline_alone_the_way_leads_to_the_last_exit_with_answers_before_it() -> None:
    single = model("single", (4_000, 0.95))
    choice = Family([SMALL, single, LARGE]).resolve(None, None, patient=False, single=True, anytime=True)
    assert choice.model is LARGE and choice.plan.costs[-1] == 5_000 and choice.plan.budget is None
    alone = Family([single]).resolve(None, None, patient=False, single=True, anytime=True)
    assert alone.plan.costs == (4_000,)


def test_load_shrinks_the_default_budget_and_nothing_else() -> None:
    family = Family([LARGE, SMALL])

    def halved(budget: float, floor: float) -> float:
        assert floor == 1_000
        return max(budget / 2, floor)

    choice = family.resolve(None, None, patient=True, single=True, shrunk=halved)
    assert choice.degraded and choice.mean == 2_500 and choice.model is SMALL
    timed = family.resolve(None, None, patient=False, single=True, anytime=True, shrunk=halved)
    assert timed.degraded and timed.mean == 2_500
    for mean, limit in ((5_000, None), (None, 5_000), (5_000, 5_000)):
        own = family.resolve(mean, limit, patient=True, single=False, shrunk=halved)
        assert not own.degraded and own.plan.costs[-1] == 5_000
