"""Launch times are kept per span and size of batch."""

import pytest

from model_store.nets.staged import Span
from service.engine.times import StageTimes

SPAN = Span(0, 2)


def test_nothing_is_expected_before_the_first_launch() -> None:
    assert StageTimes().expected(SPAN, 8) == 0.0


def test_small_and_large_batches_have_times_of_their_own() -> None:
    times = StageTimes()
    for _ in range(50):
        times.note(SPAN, 1, 0.002)
        times.note(SPAN, 30, 0.040)
    assert times.expected(SPAN, 1) == pytest.approx(0.002)
    assert times.expected(SPAN, 17) == pytest.approx(0.040)
    assert times.expected(SPAN, 4) == pytest.approx(0.040)  # as near to both: the longer one
    assert times.expected(Span(3, 4), 1) == 0.0


def test_an_average_moves_with_the_machine() -> None:
    times = StageTimes()
    times.note(SPAN, 8, 0.010)
    for _ in range(60):
        times.note(SPAN, 8, 0.030)
    assert times.expected(SPAN, 8) == pytest.approx(0.030, rel=0.01)
