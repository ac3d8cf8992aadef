"""Programs of one batch size each: when they are there, and what fills batches up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SmallStore, random_images
from torch import Tensor

from model_store.nets.staged import Span
from service.engine.executors import TorchExecutor, triangular_sizes
from service.engine.openvino_executor import OpenVinoExecutor, _Fixed
from service.engine.openvino_graph import SpanGraphs, convert

FIRST, REST = Span(0, 0), Span(1, 3)


@pytest.fixture(scope="module")
def graphs(small_store: SmallStore) -> SpanGraphs:
    artifact = small_store.artifact
    return convert(artifact.net, artifact.manifest.input)


@pytest.fixture
def executor(graphs: SpanGraphs) -> OpenVinoExecutor:
    return OpenVinoExecutor(graphs, 1, "f32", sizes=(1, 3, 6, 10))


def images_of(count: int) -> Tensor:
    return torch.from_numpy(random_images(count))


def test_what_is_run_often_has_some_sizes_at_once_and_all_once_it_is_refined(
    executor: OpenVinoExecutor,
) -> None:
    executor.prepare(FIRST, often=True)
    assert [executor.images_run(FIRST, images) for images in (1, 2, 4, 7, 11)] == [1, 3, 10, 10, 11]
    executor.refine(FIRST)
    assert [executor.images_run(FIRST, images) for images in (1, 2, 4, 7, 11)] == [1, 3, 6, 10, 11]
    assert executor.images_run(REST, 2) == 3  # by the program for all sizes, which should see few of them


def test_answers_are_the_networks_own_before_and_after_it_is_refined(
    executor: OpenVinoExecutor, small_store: SmallStore
) -> None:
    artifact = small_store.artifact
    reference = TorchExecutor(artifact.net, artifact.manifest.input, torch.device("cpu"))
    images = images_of(5)
    expected_features, expected = reference.run(FIRST, (images,))
    executor.prepare(FIRST, often=True)
    for _ in ("prepared", "refined"):
        features, logits = executor.run(FIRST, (images,))
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        for mine, other in zip(features, expected_features, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
        executor.refine(FIRST)


def test_a_batch_laid_down_before_a_closer_size_was_compiled_is_run_all_the_same(
    executor: OpenVinoExecutor,
) -> None:
    executor.prepare(FIRST, often=True)
    images = images_of(5)
    expected = executor.run(FIRST, (images,))[1].clone()
    (room,) = executor.inputs(FIRST, 5)
    room.copy_(images)
    executor.refine(FIRST)
    torch.testing.assert_close(executor.run(FIRST, (room,))[1], expected, atol=1e-4, rtol=1e-4)


def test_rows_that_only_fill_a_batch_up_begin_as_zeros() -> None:
    class Request:
        input_tensors = (SimpleNamespace(data=np.full((3, 2), np.nan, np.float32)),)
        output_tensors = ()

    (inputs, _) = _Fixed(Request()).views(3, 3)
    assert inputs[0].eq(0).all()


def test_sizes_are_triangular_numbers_well_below_the_largest_batch_and_that() -> None:
    assert [triangular_sizes(n) for n in (1, 2, 3, 6, 16, 32)] == [
        (1,), (1, 2), (1, 3), (1, 3, 6), (1, 3, 6, 10, 16), (1, 3, 6, 10, 15, 21, 32),
    ]  # fmt: skip


def test_threads_that_want_the_same_programs_compile_each_once(
    executor: OpenVinoExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[tuple[Span, int]] = []
    compile_span = executor._compile

    def counted(span: Span, images: int) -> object:
        compiled.append((span, images))
        return compile_span(span, images)

    monkeypatch.setattr(executor, "_compile", counted)
    with ThreadPoolExecutor(6) as threads:
        wanted = [threads.submit(executor.refine, FIRST) for _ in range(3)]
        wanted += [threads.submit(executor.prepare, REST) for _ in range(3)]
        for done in wanted:
            done.result()
    assert sorted(compiled) == [(FIRST, 1), (FIRST, 3), (FIRST, 6), (FIRST, 10), (REST, -1)]


def test_the_first_run_compiles_what_nobody_has_prepared(executor: OpenVinoExecutor) -> None:
    assert executor.run(FIRST, (images_of(2),))[1].shape[0] == 2


@pytest.mark.parametrize(("cores", "threads"), [(4, 3), (1, 1)])
def test_small_networks_leave_a_core_to_the_event_loop(
    graphs: SpanGraphs, monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.setattr("service.engine.openvino_executor._cores", lambda: cores)
    assert OpenVinoExecutor(graphs, 0, "f32", sizes=(1, 3)).threads == threads
    assert OpenVinoExecutor(graphs, 0, "f32").threads == cores
    assert OpenVinoExecutor(graphs, 2, "f32", sizes=(1, 3)).threads == 2
