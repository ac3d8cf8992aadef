"""While cheap images come, launches of dear ones are short; else they take what there is room for."""

from types import SimpleNamespace
from typing import Any

import pytest

from model_store.nets.staged import Span
from service.engine.courtesy import DEAR, LATELY_S, LONGEST, Courtesy
from service.engine.queue import SpanKey
from service.engine.ticket import Ticket
from service.engine.times import StageTimes

OBJECTIVE_S, MOST, SPAN, CHEAP = 0.5, 16, Span(0, 6), 1e6


class Sizes:
    """An executor that runs batches of 3, 6 and 16 images."""

    def images_run(self, span: Span, images: int) -> int:
        return next(size for size in (3, 6, 16) if size >= images)


@pytest.fixture
def model() -> Any:
    return SimpleNamespace(times=StageTimes(), executor=Sizes(), allowed_flops=lambda plan: plan)


def ticket(model: Any, flops: float, arrival_s: float = 10.0) -> Ticket:
    plan: Any = flops
    return Ticket(model, plan, None, arrival_s, None)


def most(model: Any, courtesy: Courtesy) -> int:
    return courtesy.most(SpanKey(model, SPAN), 10.0)


@pytest.mark.parametrize(
    ("part", "images"), [(3.0, 3), (0.3, 3), (0.24, 6), (0.17, 6), (0.14, 16), (0.01, 16)]
)
def test_a_launch_of_dear_images_takes_little_of_the_objective_and_no_room_stays_empty(
    model: Any, part: float, images: int
) -> None:
    model.times.note(SPAN, 16, 16 * part * LONGEST * OBJECTIVE_S, 10.0)
    assert most(model, Courtesy(MOST, OBJECTIVE_S)) == images


def test_of_what_was_not_measured_of_late_a_launch_takes_all(model: Any) -> None:
    assert most(model, Courtesy(MOST, OBJECTIVE_S)) == MOST


def test_without_an_objective_launches_may_take_any_time(model: Any) -> None:
    model.times.note(SPAN, 16, 1.0, 10.0)
    model.executor.images_run = lambda span, images: images
    assert most(model, Courtesy(2**31, float("inf"))) == 2**31


def test_images_of_about_the_same_cost_go_together(model: Any) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    courtesy.note(ticket(model, CHEAP))
    courtesy.note(ticket(model, CHEAP * DEAR))
    assert not courtesy.is_dear(10.0, ticket(model, CHEAP * DEAR))
    assert courtesy.is_dear(10.0, ticket(model, CHEAP * DEAR * 1.01))


def test_no_image_is_dear_where_there_is_nobody_to_be_spared(model: Any) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    assert not courtesy.is_dear(9.0, ticket(model, 1e8))
    courtesy.note(ticket(model, CHEAP, 9.0))
    assert courtesy.is_dear(9.0 + LATELY_S, ticket(model, 1e8))
    assert not courtesy.is_dear(9.01 + LATELY_S, ticket(model, 1e8))
    courtesy.note(ticket(model, 1e8, 9.01 + LATELY_S))
    assert not courtesy.is_dear(9.01 + LATELY_S, ticket(model, 1e8))


def test_cheap_images_are_remembered_among_many_dear_ones(model: Any) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    courtesy.note(ticket(model, CHEAP))
    for number in range(100):
        courtesy.note(ticket(model, 1e8, 10.0 + 0.009 * number))
    assert courtesy.is_dear(10.9, ticket(model, 1e8))
