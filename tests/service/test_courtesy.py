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


def most(model: Any, courtesy: Courtesy, flops: float, now_s: float = 10.0) -> int:
    return courtesy.most(SpanKey(model, SPAN), ticket(model, flops), now_s)


@pytest.mark.parametrize(
    ("part", "images"), [(3.0, 3), (0.3, 3), (0.24, 6), (0.17, 6), (0.14, 16), (0.01, 16)]
)
def test_a_launch_of_dear_images_takes_little_of_the_objective_and_no_room_stays_empty(
    model: Any, part: float, images: int
) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    model.times.note(SPAN, 16, 16 * part * LONGEST * OBJECTIVE_S, 10.0)
    courtesy.note(ticket(model, CHEAP))
    assert most(model, courtesy, CHEAP * DEAR * 1.01) == images


def test_images_of_about_the_same_cost_go_together(model: Any) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    model.times.note(SPAN, 16, 1.0, 10.0)
    courtesy.note(ticket(model, CHEAP))
    courtesy.note(ticket(model, CHEAP * DEAR))
    assert most(model, courtesy, CHEAP * DEAR) == MOST == most(model, courtesy, CHEAP)


def test_whom_there_is_nobody_to_be_spared_for_takes_all_the_room(model: Any) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    model.times.note(SPAN, 16, 1.0, 10.0)
    assert most(model, courtesy, 1e8) == MOST
    courtesy.note(ticket(model, CHEAP, 9.0))
    for number in range(20):
        courtesy.note(ticket(model, 1e8, 9.0 + LATELY_S + 0.1 * number))
    assert most(model, courtesy, 1e8, 9.0 + LATELY_S + 2) == MOST


def test_cheap_images_are_remembered_among_many_dear_ones(model: Any) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    model.times.note(SPAN, 16, 1.0, 10.0)
    courtesy.note(ticket(model, CHEAP))
    for number in range(100):
        courtesy.note(ticket(model, 1e8, 10.0 + 0.009 * number))
    assert most(model, courtesy, 1e8, 10.9) == 3


def test_of_what_was_not_measured_of_late_a_launch_takes_all(model: Any) -> None:
    courtesy = Courtesy(MOST, OBJECTIVE_S)
    courtesy.note(ticket(model, CHEAP))
    assert most(model, courtesy, 1e8) == MOST


def test_without_an_objective_launches_may_take_any_time(model: Any) -> None:
    courtesy = Courtesy(2**31, float("inf"))
    courtesy.note(ticket(model, CHEAP))
    model.times.note(SPAN, 16, 1.0, 10.0)
    model.executor.images_run = lambda span, images: images
    assert most(model, courtesy, 1e8) == 2**31
