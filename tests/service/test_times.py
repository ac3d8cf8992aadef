"""Launch times are kept per span and size of batch, and allow for what varies."""

import random

import pytest

from model_store.nets.staged import Span
from service.engine.times import FORGET_S, Estimate, StageTimes

SPAN = Span(0, 2)


def test_nothing_is_expected_before_the_first_launch() -> None:
    assert StageTimes().bound_s(SPAN, 8, 0.0) == 0.0 == Estimate().bound_s(0.0)


def test_what_nobody_has_measured_of_late_is_forgotten() -> None:
    times = StageTimes()
    times.note(SPAN, 1, 5.0, 100.0)
    assert times.bound_s(SPAN, 1, 100.0 + 0.9 * FORGET_S) > 5.0
    assert times.bound_s(SPAN, 1, 100.0 + FORGET_S) == 0.0
    times.note(SPAN, 1, 0.001, 100.0 + FORGET_S)
    assert times.bound_s(SPAN, 1, 100.5 + FORGET_S) == pytest.approx(0.003)  # as after a first measurement


def test_small_and_large_batches_have_times_of_their_own() -> None:
    times = StageTimes()
    for _ in range(50):
        times.note(SPAN, 1, 0.002, 0.0)
        times.note(SPAN, 30, 0.040, 0.0)
    assert times.bound_s(SPAN, 1, 0.0) == pytest.approx(0.002, rel=1e-3)
    assert times.bound_s(SPAN, 17, 0.0) == pytest.approx(0.040, rel=1e-3)
    assert times.bound_s(SPAN, 4, 0.0) == pytest.approx(0.040, rel=1e-3)  # as near to both: the longer one
    assert times.bound_s(Span(3, 4), 1, 0.0) == 0.0


def test_an_image_takes_its_part_of_the_launches_of_late() -> None:
    times = StageTimes()
    assert times.image_s(SPAN, 0.0) == 0.0
    for _ in range(50):
        times.note(SPAN, 4, 0.008, 0.0)
    assert times.image_s(SPAN, 0.0) == pytest.approx(0.002)
    assert times.image_s(SPAN, FORGET_S) == 0.0 == times.image_s(Span(3, 4), 0.0)


def test_a_bound_moves_with_the_machine() -> None:
    estimate = Estimate()
    estimate.note(0.010, 0.0)
    for _ in range(60):
        estimate.note(0.030, 0.0)
    assert estimate.bound_s(0.0) == pytest.approx(0.030, rel=0.01)


def test_what_varies_is_hardly_ever_longer_than_its_bound() -> None:
    chance, estimate, longer = random.Random(0), Estimate(), 0
    for number in range(10_000):
        seconds = chance.gauss(0.010, 0.002)
        longer += number > 100 and seconds > estimate.bound_s(0.0)
        estimate.note(seconds, 0.0)
    assert longer < 100
