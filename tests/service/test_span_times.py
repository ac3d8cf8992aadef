"""Launch times are measured on the worker, and asked for any batch size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import SmallStore
from torch import Tensor

from model_store.nets.staged import Features, Span
from service.engine.executors import TorchExecutor
from service.engine.loaded import LoadedModel
from service.engine.ticket import LaunchError
from service.profiling.span_times import LaunchTime, SpanTimes, measure_spans

FIRST, FURTHER = Span(0, 1), Span(2, 3)


class Clock:
    """Stands still unless something takes its time."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class TimedExecutor(TorchExecutor):
    """Takes 1 ms for a launch and 0.5 ms more for each image and block, of a clock that nobody waits for.

    The first launch of each span takes a second more: it compiles.
    """

    def __init__(self, store: SmallStore, clock: Clock) -> None:
        super().__init__(store.artifact.net, store.artifact.manifest.input, torch.device("cpu"))
        self.clock, self.ran = clock, list[tuple[Span, int]]()

    def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        images = len(features[0])
        compiling_s = 0.0 if span in {known for known, _ in self.ran} else 1.0
        self.ran.append((span, images))
        self.clock.now_s += compiling_s + 0.001 + 0.0005 * images * (span.last - span.first + 1)
        return super().run(span, features)


def measured(store: SmallStore, rounds: int = 2) -> tuple[SpanTimes, TimedExecutor]:
    executor = TimedExecutor(store, clock := Clock())
    model = LoadedModel(store.artifact.manifest, executor)
    return measure_spans(model, [FIRST, FURTHER], (1, 4, 8), rounds, clock=clock), executor


def table(**seconds: float) -> SpanTimes:
    """Times of one span by the number of images, ``n4=0.1``."""
    launches = {int(name[1:]): LaunchTime(median_s=s, low_s=s, high_s=s) for name, s in seconds.items()}
    return SpanTimes(
        model="small@1",
        device="CPU",
        precision="f32",
        threads=1,
        machine="a machine",
        rounds=2,
        spans={str(FIRST): launches},
    )


def test_a_launch_takes_what_the_executor_took_without_its_first_run(small_store: SmallStore) -> None:
    times, _ = measured(small_store)
    for span in (FIRST, FURTHER):
        for images in (1, 4, 8):
            assert times.seconds(span, images) == pytest.approx(0.001 + 0.001 * images)
            launch = times.spans[str(span)][images]
            assert launch.low_s == pytest.approx(launch.median_s) == pytest.approx(launch.high_s)


def test_spans_and_sizes_take_turns(small_store: SmallStore) -> None:
    _, executor = measured(small_store, rounds=3)
    turn = [
        *((FIRST, images) for images in (1, 4, 8)),
        *((span, images) for images in (1, 4, 8) for span in (FIRST, FURTHER)),
    ]
    assert executor.ran == turn * 4  # one to warm up


def test_it_says_what_was_measured(small_store: SmallStore) -> None:
    times, _ = measured(small_store)
    assert (times.model, times.device, times.precision, times.rounds) == ("small@1", "cpu", "float32", 2)
    assert times.machine


def test_an_executor_that_fails_ends_the_measurement(small_store: SmallStore) -> None:
    class Broken(TimedExecutor):
        def run(self, span: Span, features: Features) -> tuple[Features, Tensor]:
            features, logits = super().run(span, features)
            return features, logits * float("nan")

    model = LoadedModel(small_store.artifact.manifest, Broken(small_store, clock := Clock()))
    with pytest.raises(LaunchError, match="not finite"):
        measure_spans(model, [FIRST], (1,), 2, clock=clock)


def test_times_are_on_straight_lines_between_what_was_measured() -> None:
    times = table(n2=0.1, n4=0.2, n8=0.25)
    assert [times.seconds(FIRST, images) for images in (2, 4, 8)] == [0.1, 0.2, 0.25]
    assert times.seconds(FIRST, 3) == pytest.approx(0.15)
    assert times.seconds(FIRST, 6) == pytest.approx(0.225)


def test_a_launch_that_is_filled_up_takes_as_long_as_the_size_that_runs() -> None:
    times = table(n2=0.1, n4=0.2, n8=0.25).model_copy(update={"padded": True})
    assert [times.images_run(FIRST, images) for images in (1, 3, 4, 9)] == [2, 4, 4, 9]
    assert [times.seconds(FIRST, images) for images in (1, 3, 4, 5)] == [0.1, 0.2, 0.2, 0.25]


def test_beyond_the_largest_batch_the_last_line_goes_on() -> None:
    assert table(n2=0.1, n4=0.2, n8=0.25).seconds(FIRST, 16) == pytest.approx(0.35)
    assert table(n8=0.25).seconds(FIRST, 16) == pytest.approx(0.5)


def test_below_the_smallest_batch_a_launch_takes_as_long_as_that() -> None:
    assert table(n2=0.1, n4=0.2).seconds(FIRST, 1) == 0.1 == table(n2=0.1).seconds(FIRST, 1)


def test_a_span_that_was_not_measured_has_no_time() -> None:
    with pytest.raises(KeyError):
        table(n2=0.1).seconds(FURTHER, 2)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    times = table(n2=0.1, n4=0.2)
    times.write(tmp_path / "times.json")
    assert SpanTimes.read(tmp_path / "times.json") == times
