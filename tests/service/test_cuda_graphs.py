"""The CUDA executor on a CUDA device. Nothing here runs without one."""

from __future__ import annotations

import gc
import random
import threading

import pytest
import torch
from conftest import SmallStore, random_images
from engines import executed_flops, natural_images

from model_store.nets.staged import Features, Span
from model_store.store import EMBEDDED, Store
from service.engine.cuda_device import EagerDevice, graph_device
from service.engine.cuda_executor import CudaExecutor
from service.engine.executors import Executor, TorchExecutor, kept
from service.engine.loaded import LoadedModel
from service.loading import make_executor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MAX_BATCH = 12
CUDA = torch.device("cuda", 0)


def graphs(
    store: SmallStore, dtype: torch.dtype = torch.bfloat16, max_batch: int = MAX_BATCH
) -> CudaExecutor:
    artifact = store.artifact
    return CudaExecutor(artifact.net, artifact.manifest.input, graph_device(CUDA), max_batch, dtype)


def eager(store: SmallStore, dtype: torch.dtype = torch.bfloat16) -> CudaExecutor:
    artifact = store.artifact
    return CudaExecutor(artifact.net, artifact.manifest.input, EagerDevice(CUDA), MAX_BATCH, dtype)


def reference(store: SmallStore) -> TorchExecutor:
    artifact = store.artifact
    return TorchExecutor(artifact.net, artifact.manifest.input, torch.device("cpu"))


def images_of(count: int, seed: int) -> Features:
    return (torch.from_numpy(random_images(count, seed)),)


def features_for(plain: Executor, span: Span, count: int, seed: int) -> Features:
    features = images_of(count, seed)
    return features if span.first == 0 else plain.run(Span(0, span.first - 1), features)[0]


def difference(some: Features, others: Features) -> float:
    return max(
        float((a.float().cpu() - b.float().cpu()).norm() / b.float().norm().cpu().clamp_min(1e-12))
        for a, b in zip(some, others, strict=True)
    )


def spans_of(store: SmallStore) -> list[Span]:
    stages = len(store.artifact.manifest.stages)
    return [Span(first, last) for first in range(stages) for last in range(first, stages)]


def test_every_batch_and_span_in_any_order_gives_what_the_processor_gives(small_store: SmallStore) -> None:
    chance, plain, recorded = random.Random(1), reference(small_store), graphs(small_store)
    for seed in range(100):
        span, count = chance.choice(spans_of(small_store)), chance.randint(1, MAX_BATCH)
        given = features_for(plain, span, count, seed)
        features, logits = recorded.run(span, given)
        expected, expected_logits = plain.run(span, given)
        assert logits.dtype == torch.float32
        assert difference((logits, *features), (expected_logits, *expected)) < 2e-2, (span, count)


def test_graphs_and_the_same_work_called_eagerly_agree(small_store: SmallStore) -> None:
    plain, recorded, called = reference(small_store), graphs(small_store), eager(small_store)
    for seed, span in enumerate(spans_of(small_store)):
        for count in (1, 5, MAX_BATCH):
            given = features_for(plain, span, count, seed)
            features, logits = recorded.run(span, given)
            expected, expected_logits = called.run(span, given)
            assert difference((logits, *features), (expected_logits, *expected)) < 1e-2, (span, count)


def test_a_row_is_the_same_to_the_bit_whoever_is_beside_it_in_a_size(small_store: SmallStore) -> None:
    recorded, plain = graphs(small_store), reference(small_store)
    for span in spans_of(small_store):
        crowd = features_for(plain, span, 8, seed=2)
        recorded.run(span, tuple(x.flip(0) for x in crowd))
        padded = recorded.run(span, tuple(x[:5] for x in crowd))[1].cpu()
        full = recorded.run(span, crowd)[1].cpu()
        assert padded.equal(full[:5])


def test_what_a_graph_returned_outlives_all_other_graphs(small_store: SmallStore) -> None:
    """They share one pool of memory, in which any may overwrite what another has left."""
    first, second, plain = graphs(small_store), graphs(small_store), reference(small_store)
    spans = spans_of(small_store)
    for span in spans:
        first.prepare(span)
        second.prepare(span)
    results = []
    for seed, span in enumerate(spans):
        features, logits = first.run(span, features_for(plain, span, MAX_BATCH, seed))
        results.append([(x, x.clone()) for x in (logits, *features)])
    for seed, span in enumerate(reversed(spans)):
        second.run(span, features_for(plain, span, MAX_BATCH, seed + 100))
    torch.cuda.synchronize()
    assert all(x.equal(copy) for pairs in results for x, copy in pairs)


def test_survivors_go_on_as_on_the_processor(small_store: SmallStore) -> None:
    recorded, plain = graphs(small_store), reference(small_store)
    rows = [7, 0, 3]
    last = len(small_store.artifact.manifest.stages) - 1
    survivors = kept(recorded.run(Span(0, 0), images_of(9, seed=6))[0], rows)
    recorded.run(Span(0, 0), images_of(9, seed=7))
    logits = recorded.run(Span(1, last), survivors)[1]
    expected = plain.run(Span(0, last), tuple(x[rows] for x in images_of(9, seed=6)))[1]
    assert difference((logits,), (expected,)) < 2e-2


@pytest.mark.parametrize("measure", ["probability", "margin", "normalised"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_exit_is_read_as_on_the_processor(small_store: SmallStore, measure: str, whole: bool) -> None:
    recorded, plain = graphs(small_store), reference(small_store)
    for count in (MAX_BATCH, 1, 3):
        logits = recorded.run(Span(0, 0), images_of(count, seed=count))[1]
        table = recorded.read(logits, measure, 1.7, whole)  # type: ignore[arg-type]
        expected = plain.read(logits.cpu(), measure, 1.7, whole)  # type: ignore[arg-type]
        assert table.is_pinned() and torch.allclose(table, expected, atol=1e-5)


def test_uploads_do_not_overtake_each_other(small_store: SmallStore) -> None:
    recorded, plain = graphs(small_store), reference(small_store)
    copies = [recorded.run(Span(0, 0), images_of(12, seed))[1].clone() for seed in range(30)]
    for seed, logits in enumerate(copies):
        assert difference((logits,), (plain.run(Span(0, 0), images_of(12, seed))[1],)) < 2e-2


def test_one_model_is_recorded_while_another_runs(small_store: SmallStore) -> None:
    recorded, plain = graphs(small_store), reference(small_store)
    expected = plain.run(Span(0, 0), images_of(4, seed=1))[1]
    recorded.prepare(Span(0, 0))
    failures: list[BaseException] = []

    def load() -> None:
        try:
            other = graphs(small_store)
            for span in spans_of(small_store):
                other.prepare(span)
        except BaseException as error:
            failures.append(error)

    loader = threading.Thread(target=load)
    loader.start()
    while loader.is_alive():
        features, logits = recorded.run(Span(0, 0), images_of(4, seed=1))
        survivors = kept(features, [2, 0])
        recorded.read(logits, "probability", 1.0, False)
        assert difference((logits,), (expected,)) < 2e-2 and len(survivors[0]) == 2
    loader.join()
    assert not failures


def test_memory_comes_back_when_models_go(small_store: SmallStore) -> None:
    graphs(small_store).prepare(Span(0, 0))  # what libraries take once stays
    gc.collect()
    torch.cuda.empty_cache()
    allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(3):
        models = [graphs(small_store, max_batch=64), graphs(small_store, max_batch=64)]
        for model in models:
            for span in spans_of(small_store):
                model.prepare(span)
            model.read(model.run(Span(0, 0), images_of(3, 1))[1], "probability", 1.0, True)
        assert torch.cuda.memory_allocated() > allocated
        del models, model
        gc.collect()
        torch.cuda.empty_cache()
        assert torch.cuda.memory_allocated() <= allocated
        assert torch.cuda.memory_reserved() <= reserved + 2**21


def test_a_launch_without_memory_fails_and_the_next_one_does_not(small_store: SmallStore) -> None:
    recorded, plain = graphs(small_store, max_batch=2048), reference(small_store)
    recorded.prepare(Span(0, 0))
    torch.cuda.empty_cache()
    share = torch.cuda.memory_reserved() / torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(share, CUDA)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            recorded.run(Span(0, 1), images_of(2048, seed=1))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CUDA)
    for span in (Span(0, 0), Span(0, 1)):
        expected = plain.run(span, images_of(2048, seed=2))[1]
        assert difference((recorded.run(span, images_of(2048, seed=2))[1],), (expected,)) < 2e-2


async def test_what_is_executed_counts_the_padding(small_store: SmallStore) -> None:
    model = LoadedModel(small_store.artifact.manifest, graphs(small_store, max_batch=8))
    plan = model.plan(None, model.plan(None, None, True).costs[0], True)
    assert await executed_flops(model, list(random_images(5)), plan) == 8 * plan.costs[0]


@pytest.mark.parametrize("name", ["cifar10-fusion", "cifar10-se-resnet18-pruned", "cifar10-shufflenet"])
def test_labels_of_the_embedded_models_are_those_of_float32(name: str) -> None:
    artifact = Store(EMBEDDED).load(name, None)
    recorded = make_executor(artifact, "auto", threads=0, max_batch=64)
    assert isinstance(recorded, CudaExecutor)
    plain = TorchExecutor(artifact.net, artifact.manifest.input, torch.device("cpu"))
    span = Span(0, len(artifact.manifest.stages) - 1)
    parts = torch.from_numpy(natural_images()).split(64)
    labels = torch.cat([recorded.run(span, (part,))[1].argmax(dim=1).cpu() for part in parts])
    expected = torch.cat([plain.run(span, (part,))[1].argmax(dim=1) for part in parts])
    assert (labels == expected).float().mean() >= 0.99
