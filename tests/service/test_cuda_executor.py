"""The CUDA executor without a CUDA device: everything but the graphs, for which an eager device stands in."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest
import torch
from conftest import SPEC, SmallStore, random_images
from engines import executed_flops, natural_images

from model_store.nets.fusion import fusion
from model_store.nets.staged import Features, Span, StagedNet
from model_store.store import EMBEDDED, Store
from service.engine import cuda_executor
from service.engine.cuda_device import EagerDevice
from service.engine.cuda_executor import CudaExecutor
from service.engine.executors import TorchExecutor, batch_sizes, kept
from service.engine.loaded import LoadedModel
from service.loading import make_executor

CPU = torch.device("cpu")


class CountingDevice(EagerDevice):
    """Counts what is recorded; while it is broken, nothing can be."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.recorded, self.broken = 0, False

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.broken:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.recorded += 1
        return super().record(work)


@pytest.fixture(scope="module")
def net() -> StagedNet:
    torch.manual_seed(0)
    return fusion(channels=8, growth=4, layers_per_block=(2, 1, 1), scales=3).eval()


def executor(net: StagedNet, max_batch: int = 6, dtype: torch.dtype = torch.float32) -> CudaExecutor:
    return CudaExecutor(net, SPEC, CountingDevice(), max_batch, dtype)


@cache
def reference(net: StagedNet) -> TorchExecutor:
    return TorchExecutor(net, SPEC, CPU)


def images_of(count: int, seed: int) -> Features:
    return (torch.from_numpy(random_images(count, seed)),)


def features_for(net: StagedNet, span: Span, count: int, seed: int) -> Features:
    """What the reference hands to ``span``."""
    features = images_of(count, seed)
    return features if span.first == 0 else reference(net).run(Span(0, span.first - 1), features)[0]


def difference(some: Features, others: Features) -> float:
    """Largest ‖a - b‖ / ‖b‖."""
    return max(
        float((a.float() - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(some, others, strict=True)
    )


SPANS = [Span(first, last) for first in range(3) for last in range(first, 3)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_every_batch_and_span_in_any_order_gives_what_eager_torch_gives(
    net: StagedNet, dtype: torch.dtype, tolerance: float
) -> None:
    chance, plain, padded = random.Random(1), reference(net), executor(net, dtype=dtype)
    for seed in range(20):
        span, count = chance.choice(SPANS), chance.randint(1, 6)
        given = features_for(net, span, count, seed)
        features, logits = padded.run(span, given)
        expected, expected_logits = plain.run(span, given)
        assert logits.dtype == torch.float32 and logits.shape == expected_logits.shape
        assert [x.shape for x in features] == [x.shape for x in expected]
        assert difference((logits, *features), (expected_logits, *expected)) < tolerance, (span, count)


def test_logits_are_finer_than_bf16(net: StagedNet) -> None:
    logits = executor(net, dtype=torch.bfloat16).run(Span(0, 2), images_of(6, seed=1))[1]
    assert not logits.equal(logits.bfloat16().float())


def test_a_row_is_the_same_to_the_bit_whoever_is_or_was_beside_it(net: StagedNet) -> None:
    padded = executor(net)
    for span in SPANS:
        crowd, others = (features_for(net, span, 6, seed) for seed in (1, 2))
        padded.run(span, others)  # leaves its rows behind, where the next one only pads
        alone = padded.run(span, tuple(x[:5] for x in crowd))[1].clone()
        assert padded.run(span, crowd)[1][:5].equal(alone)
        mixed = tuple(torch.cat([x[:5], other[5:]]) for x, other in zip(crowd, others, strict=True))
        assert padded.run(span, mixed)[1][:5].equal(alone)


def test_results_stay_until_the_same_span_runs_again_whatever_else_runs(net: StagedNet) -> None:
    padded = executor(net)
    features, logits = padded.run(Span(0, 0), images_of(3, seed=1))
    copies = [x.clone() for x in (logits, *features)]
    for span in SPANS[1:]:
        padded.run(span, features_for(net, span, 6, seed=2))
    assert all(x.equal(copy) for x, copy in zip((logits, *features), copies, strict=True))
    padded.run(Span(0, 0), images_of(3, seed=3))
    assert not logits.equal(copies[0])


def test_a_batch_laid_down_in_the_executors_own_tensors_is_not_copied_and_counts_the_same(
    net: StagedNet,
) -> None:
    padded = executor(net)
    for span in (Span(0, 1), Span(1, 2)):
        given = features_for(net, span, 5, seed=4)
        expected = padded.run(span, given)[1].clone()
        room = padded.inputs(span, 5)
        assert [x.shape for x in room] == [x.shape for x in given]
        padded.run(span, features_for(net, span, 5, seed=5))
        for x, value in zip(room, given, strict=True):
            x.copy_(value)
        assert padded.run(span, room)[1].equal(expected)


def test_survivors_go_on_as_in_eager_torch(net: StagedNet) -> None:
    padded, plain = executor(net), reference(net)
    rows = [4, 0, 3]
    survivors = kept(padded.run(Span(0, 0), images_of(6, seed=6))[0], rows)
    padded.run(Span(0, 0), images_of(6, seed=7))
    logits = padded.run(Span(1, 2), survivors)[1]
    expected = plain.run(Span(0, 2), tuple(x[rows] for x in images_of(6, seed=6)))[1]
    assert difference((logits,), (expected,)) < 1e-5


@pytest.mark.parametrize("measure", ["probability", "margin", "normalised"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_exit_is_read_as_the_exit_rule_says(net: StagedNet, measure: str, whole: bool) -> None:
    padded, plain = executor(net), reference(net)
    for count in (6, 1, 3):
        logits = padded.run(Span(0, 2), images_of(count, seed=count))[1]
        table = padded.read(logits, measure, 1.7, whole)  # type: ignore[arg-type]
        expected = plain.read(logits, measure, 1.7, whole)  # type: ignore[arg-type]
        assert table.device == CPU and table.equal(expected)


def test_sizes_are_powers_of_two_up_to_the_largest_batch_and_that() -> None:
    assert [batch_sizes(n) for n in (1, 2, 3, 32, 33)] == [
        (1,), (1, 2), (1, 2, 3), (1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 32, 33),
    ]  # fmt: skip


def test_a_launch_counts_the_rows_that_only_fill_it_up(net: StagedNet) -> None:
    padded = executor(net, max_batch=6)
    assert [padded.images_run(Span(0, 0), n) for n in (1, 2, 3, 4, 5, 6)] == [1, 2, 4, 4, 6, 6]
    with pytest.raises(ValueError, match="7 images is above the largest, 6"):
        padded.run(Span(0, 0), images_of(7, seed=1))


def test_sizes_are_recorded_at_their_first_run_or_all_at_once(net: StagedNet) -> None:
    padded = executor(net)
    device = padded._device
    assert isinstance(device, CountingDevice)
    padded.run(Span(0, 1), images_of(3, seed=1))
    padded.run(Span(0, 1), images_of(4, seed=1))
    assert device.recorded == 1
    padded.prepare(Span(0, 1))
    padded.prepare(Span(0, 1))
    assert device.recorded == len(padded.sizes)


def test_no_more_graphs_are_kept_than_the_bound(net: StagedNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_executor, "GRAPHS_KEPT", 3)
    padded, plain = executor(net), reference(net)
    for seed, count in enumerate((1, 2, 4, 6, 1, 6, 2)):
        logits = padded.run(Span(0, 0), images_of(count, seed))[1]
        assert difference((logits,), (plain.run(Span(0, 0), images_of(count, seed))[1],)) < 1e-5
        assert len(padded._launches) <= 3


def test_a_launch_that_fails_leaves_the_executor_as_it_was(net: StagedNet) -> None:
    padded, plain = executor(net), reference(net)
    device = padded._device
    assert isinstance(device, CountingDevice)
    padded.run(Span(0, 0), images_of(2, seed=1))
    device.broken = True
    with pytest.raises(torch.OutOfMemoryError):
        padded.run(Span(0, 0), images_of(6, seed=2))
    expected = plain.run(Span(0, 0), images_of(2, seed=3))[1]
    assert difference((padded.run(Span(0, 0), images_of(2, seed=3))[1],), (expected,)) < 1e-5
    device.broken = False
    expected = plain.run(Span(0, 0), images_of(6, seed=4))[1]
    assert difference((padded.run(Span(0, 0), images_of(6, seed=4))[1],), (expected,)) < 1e-5


async def test_what_is_executed_counts_the_padding(small_store: SmallStore) -> None:
    artifact = small_store.artifact
    padded = CudaExecutor(artifact.net, artifact.manifest.input, EagerDevice(CPU), 8, torch.float32)
    model = LoadedModel(artifact.manifest, padded)
    plan = model.plan(None, model.plan(None, None, True).costs[0], True)
    assert await executed_flops(model, list(random_images(5)), plan) == 8 * plan.costs[0]


def test_labels_of_the_embedded_model_are_those_of_float32() -> None:
    artifact = Store(EMBEDDED).load("cifar10-fusion", None)
    images = torch.from_numpy(natural_images(shifts=2))  # bf16 is slow on many processors
    padded = CudaExecutor(artifact.net, artifact.manifest.input, EagerDevice(CPU), len(images))
    plain = TorchExecutor(artifact.net, artifact.manifest.input, CPU)
    span = Span(0, len(artifact.manifest.stages) - 1)
    same = padded.run(span, (images,))[1].argmax(dim=1) == plain.run(span, (images,))[1].argmax(dim=1)
    assert same.float().mean() >= 0.99


def test_without_a_cuda_device_it_is_refused(
    small_store: SmallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="needs a CUDA device"):
        make_executor(small_store.artifact, "cuda", threads=0, max_batch=4)


def test_it_says_where_and_how_it_runs(net: StagedNet) -> None:
    assert executor(net, dtype=torch.bfloat16).device == "cpu bfloat16 eager"
