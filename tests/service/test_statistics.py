"""What a model's statistics count, with a real engine, and that the counts agree with each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
import torch
from conftest import SmallStore, random_images

from model_store import exits
from service.engine.engine import Engine
from service.engine.executors import TorchExecutor
from service.engine.loaded import LoadedModel
from service.engine.statistics import ModelStatistics
from service.engine.ticket import Expired, LaunchError, Prediction
from service.engine.times import LaunchTimes
from service.metrics import Metrics


@pytest.fixture
def model(small_store: SmallStore) -> LoadedModel:
    artifact = small_store.artifact
    executor = TorchExecutor(artifact.net, artifact.manifest.input, torch.device("cpu"))
    return LoadedModel(artifact.manifest, executor)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def engine(metrics: Metrics) -> AsyncIterator[Engine]:
    engine = Engine(metrics, max_in_flight=64, max_batch=8, max_wait_s=0.001, recheck_share=1.0)
    engine.start()
    yield engine
    await engine.stop()


def total(metrics: Metrics, name: str) -> float:
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name)


def adds_up(statistics: ModelStatistics) -> None:
    """Launches and images by themselves; how the two relate depends on the exits."""
    launches = statistics.launches()
    assert [size for size, _ in launches] == sorted({size for size, _ in launches})
    for size, computed in launches:
        assert size >= 1 and computed.number >= 1 and computed.infer_ns > 0
    images_in_launches = sum(size * computed.number for size, computed in launches)
    assert images_in_launches >= statistics.answered.number
    assert statistics.answered.infer_ns <= sum(size * computed.infer_ns for size, computed in launches)


async def test_images_and_launches_are_counted_and_background_work_is_not(
    engine: Engine, model: LoadedModel, metrics: Metrics
) -> None:
    plan = model.plan(1.4e6, None, True)
    before_ms = time.time_ns() // 10**6
    for images in (*random_images(20)[:, None], random_images(6)):
        with engine.admit() as permit:
            outcomes = await engine.submit(model, list(images), plan, permit).outcomes()
        assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    statistics = model.statistics
    launches = sum(computed.number for _, computed in statistics.launches())
    async with asyncio.timeout(10):
        while total(metrics, "exitramp_rechecks_total") == 0:
            await asyncio.sleep(0.01)  # those that left early and alone run to the last exit now
    assert total(metrics, "exitramp_batch_size_count") > launches
    assert sum(computed.number for _, computed in statistics.launches()) == launches
    assert (statistics.answered.number, statistics.failed) == (26, 0)
    assert before_ms <= statistics.last_ms <= time.time_ns() // 10**6
    adds_up(statistics)
    with engine.admit() as permit:
        (outcome,) = await engine.submit(model, [random_images(1)[0]], plan, permit).outcomes()
    assert isinstance(outcome, Prediction)
    assert statistics.answered.number == 27


async def test_who_has_no_answer_has_failed(engine: Engine, model: LoadedModel) -> None:
    plan = model.plan(None, 1e9, True)
    with engine.admit() as permit:
        late = engine.submit(model, list(random_images(3)), plan, permit, time.monotonic() - 1)
        assert [type(outcome) for outcome in await late.outcomes()] == [Expired] * 3
    assert (model.statistics.answered.number, model.statistics.failed) == (0, 3)
    with engine.admit() as permit:
        waiting = asyncio.ensure_future(engine.submit(model, [random_images(1)[0]], plan, permit).outcomes())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (model.statistics.answered.number, model.statistics.failed) == (0, 4)
    broken = np.full((3, 5, 5), 0, np.uint8)  # not the network's size
    with engine.admit() as permit, pytest.raises(LaunchError):
        await engine.submit(model, [random_images(1)[0], broken], plan, permit).outcomes()
    assert (model.statistics.answered.number, model.statistics.failed) == (0, 6)
    assert model.statistics.failed_ns > 0 and model.statistics.last_ms == 0


def test_the_time_of_an_image_is_the_sum_of_its_parts() -> None:
    statistics = ModelStatistics()
    statistics.note_answer(0.010, LaunchTimes(0.001, 0.004, 0.002))
    statistics.note_answer(0.020, LaunchTimes(0.002, 0.005, 0.001))
    answered = statistics.answered
    assert answered[1:] == (3_000_000, 9_000_000, 3_000_000)
    assert statistics.waited_ns + answered.total_ns == 30_000_000


def test_another_policy_goes_on_counting(model: LoadedModel) -> None:
    model.statistics.note_failure(1.0)
    assert model.with_policy(model.policy).statistics.failed == 1


async def test_probabilities_of_all_classes_come_only_where_they_are_asked_for(
    engine: Engine, model: LoadedModel
) -> None:
    plan, images = model.plan(2e6, None, True), list(random_images(12, seed=3))
    with engine.admit() as permit, engine.admit() as other:
        plain, whole = await asyncio.gather(
            engine.submit(model, images, plan, other).outcomes(),
            engine.submit(model, images, plan, permit, whole=True).outcomes(),
        )
    for image, short, full in zip(images, plain, whole, strict=True):
        assert isinstance(short, Prediction) and isinstance(full, Prediction)
        assert short.distribution is None and full.distribution is not None
        assert full.distribution.shape == (10,) and full.distribution.dtype == np.float32
        assert full.distribution[list(full.classes)].tolist() == list(full.probabilities)
        features = (torch.from_numpy(image[None].copy()),)
        net_plan = plan.exits.index(full.exit - 1)
        for span in plan.spans()[: net_plan + 1]:
            features, logits = model.executor.run(span, features)
            features = tuple(x.clone() for x in features)
        temperature = model.policy.temperature(full.exit - 1)
        expected = exits.scaled(logits, temperature).softmax(dim=1)[0].numpy()
        assert np.allclose(full.distribution, expected, atol=1e-5)
