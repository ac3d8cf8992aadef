"""The engine's central promise, and what happens around it. All executors."""

from __future__ import annotations

import asyncio
import random
import time
from math import inf

import numpy as np
import pytest
import torch
from conftest import SmallStore, random_images
from engines import BlockedExecutor, FailingExecutor, SlowExecutor, alone, classify, running

from model_store import ledger
from model_store.nets.staged import Span
from model_store.policy import Plan
from service.engine import loaded
from service.engine.admission import NoPermit
from service.engine.cuda_device import EagerDevice
from service.engine.cuda_executor import CudaExecutor
from service.engine.executors import Executor, TorchExecutor
from service.engine.loaded import LoadedModel
from service.engine.openvino_executor import OpenVinoExecutor
from service.engine.openvino_graph import convert
from service.engine.ticket import Expired, LaunchError, Prediction


@pytest.fixture(scope="module", params=["torch", "openvino", "cuda"])
def executor(request: pytest.FixtureRequest, small_store: SmallStore) -> Executor:
    artifact = small_store.artifact
    if request.param == "torch":
        return TorchExecutor(artifact.net, artifact.manifest.input, torch.device("cpu"))
    if request.param == "cuda":  # all of it but the graphs
        device = EagerDevice(torch.device("cpu"))
        return CudaExecutor(artifact.net, artifact.manifest.input, device, 32, torch.float32)
    return OpenVinoExecutor(convert(artifact.net, artifact.manifest.input), 2, "f32", sizes=(1, 2, 4, 8))


@pytest.mark.parametrize("max_batch", [1, 5, 32])
async def test_every_image_is_answered_as_if_it_were_alone(
    executor: Executor, small_store: SmallStore, max_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For random arrival orders, batch limits, budgets, limits and cancellations."""
    # This policy's means are made up; accounts never leave their middle, as with calibrated ones.
    monkeypatch.setattr(ledger, "STEP", inf)
    monkeypatch.setattr(ledger, "RESERVE", inf)
    chance = random.Random(max_batch)
    images = random_images(200, seed=max_batch)
    model = LoadedModel(small_store.artifact.manifest, executor)
    picked = {number: chance.choice(mixed_plans(model)) for number in range(len(images))}
    answered: dict[int, Prediction] = {}
    async with running(max_batch=max_batch) as engine:

        async def one(number: int) -> None:
            await asyncio.sleep(chance.random() * 0.2)
            task = asyncio.create_task(classify(engine, model, [images[number]], picked[number]))
            if number % 10 == 3:
                await asyncio.sleep(chance.random() * 0.002)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            else:
                answered[number] = (await task)[0]

        await asyncio.gather(*map(one, picked))
        assert engine.admission.in_flight == 0
    assert len(answered) == 180
    assert len({prediction.exit for prediction in answered.values()}) >= 3, (
        "images must leave at several exits"
    )
    for number, prediction in answered.items():
        label, exit_, flops, distance = alone(model, images[number], picked[number])
        if distance > 1e-4:
            assert (prediction.classes[0], prediction.exit, prediction.flops) == (label, exit_, flops), number


def mixed_plans(model: LoadedModel) -> list[Plan]:
    """The default, budgets over the whole range, limits, and both."""
    costs = model.plan(None, None, True).costs
    plans = [model.plan(None, None, True)]
    plans += [model.plan(mean, None, True) for mean in np.linspace(costs[0] * 1.05, costs[-1], 5)]
    plans += [model.plan(None, limit, True) for limit in (costs[0] * 1.2, costs[-1])]
    return [*plans, model.plan(costs[-1] * 0.8, costs[1], True)]


async def test_a_request_of_many_images_never_sums_above_its_budgets_and_uses_them(
    executor: Executor, small_store: SmallStore
) -> None:
    model = LoadedModel(small_store.artifact.manifest, executor)
    costs = model.plan(None, None, True).costs
    images = list(random_images(64, seed=2))
    async with running() as engine:
        for size in (2, 3, 8, 32, 64):
            for mean in np.linspace(costs[0], costs[-1], 7):
                answers = await classify(engine, model, images[:size], model.plan(mean, None, True))
                spent = sum(answer.flops for answer in answers)
                assert spent <= size * mean, (size, mean)
                if size >= 32:
                    assert spent >= 0.95 * size * mean, (size, mean)


async def test_within_a_group_the_least_certain_images_continue(
    executor: Executor, small_store: SmallStore
) -> None:
    model = LoadedModel(small_store.artifact.manifest, executor)
    costs = model.plan(None, None, True).costs
    images = list(random_images(32, seed=3))
    first = model.plan(None, costs[0], True)
    plan = model.plan((costs[0] + costs[1]) / 2, None, True)
    async with running() as engine:
        sure = [answer.probabilities[0] for answer in await classify(engine, model, images, first)]
        answers = await classify(engine, model, images, plan)
    left = [confidence for confidence, answer in zip(sure, answers, strict=True) if answer.exit == 1]
    went = [confidence for confidence, answer in zip(sure, answers, strict=True) if answer.exit > 1]
    assert went and left and max(went) <= min(left) + 1e-4


async def test_no_permit_is_given_beyond_the_limit_and_each_comes_back() -> None:
    async with running(max_in_flight=2) as engine:
        with engine.admit(), engine.admit(), pytest.raises(NoPermit), engine.admit():
            pass
        with engine.admit(), engine.admit():
            pass


async def test_an_answer_in_hand_is_given_when_the_deadline_strikes(small_store: SmallStore) -> None:
    slow = SlowExecutor(small_store, after=Span(0, 0), seconds=0.4)
    model = LoadedModel(small_store.artifact.manifest, slow)
    plan = model.plan(None, 1e12, False)
    async with running() as engine:
        started_s = time.monotonic()
        answers = await classify(engine, model, [random_images(1)[0]], plan, started_s + 0.15)
        assert time.monotonic() - started_s < 0.3
    assert answers[0].exit == 1


async def test_without_any_answer_at_the_deadline_the_image_has_expired(small_store: SmallStore) -> None:
    slow = SlowExecutor(small_store, after=None, seconds=0.3)
    model = LoadedModel(small_store.artifact.manifest, slow)
    async with running() as engine:
        answers = await classify(
            engine, model, [random_images(1)[0]], model.plan(None, None, False), time.monotonic() + 0.05
        )
    assert isinstance(answers[0], Expired)


async def test_whoever_has_no_answer_gets_one_until_the_deadline_itself(small_store: SmallStore) -> None:
    model = LoadedModel(small_store.artifact.manifest, SlowExecutor(small_store, after=None, seconds=0.3))
    async with running() as engine:
        now_s = time.monotonic()
        engine.way_back.note(10.0, now_s)  # so that half of the deadline is left for the way back
        plan = model.plan(None, 1e12, False)
        (answer,) = await classify(engine, model, list(random_images(1)), plan, now_s + 0.5)
    assert isinstance(answer, Prediction) and answer.exit == 1


async def test_a_failing_launch_fails_its_images_and_not_the_engine(small_store: SmallStore) -> None:
    failing = FailingExecutor(small_store)
    model = LoadedModel(small_store.artifact.manifest, failing)
    plan = model.plan(None, None, True)
    async with running() as engine:
        with pytest.raises(LaunchError):
            await classify(engine, model, [random_images(1)[0]] * 3, plan)
        failing.broken = False
        answers = await classify(engine, model, [random_images(1)[0]], plan)
        assert engine.admission.in_flight == 0
    assert isinstance(answers[0], Prediction)


async def test_stopping_answers_what_is_queued(small_store: SmallStore) -> None:
    model = LoadedModel(small_store.artifact.manifest, SlowExecutor(small_store, after=None, seconds=0.05))
    async with running(max_batch=1) as engine:
        plan = model.plan(None, None, True)
        tasks = [asyncio.create_task(classify(engine, model, [image], plan)) for image in random_images(5)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*tasks)
    assert all(isinstance(answer[0], Prediction) for answer in answers)


async def test_clients_that_leave_while_queued_cost_nothing(small_store: SmallStore) -> None:
    blocked = BlockedExecutor(small_store)
    model = LoadedModel(small_store.artifact.manifest, blocked)
    plan = model.plan(None, None, True)
    async with running() as engine:
        images = random_images(22)
        first = asyncio.create_task(classify(engine, model, [images[0]], plan))
        while not blocked.images:
            await asyncio.sleep(0.001)
        leaving = [asyncio.create_task(classify(engine, model, [image], plan)) for image in images[1:21]]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert engine.admission.in_flight == 1
        blocked.gate.set()
        await first
        await classify(engine, model, [images[21]], plan)
    assert blocked.images == 2


async def test_cheap_requests_overtake_a_crowd_of_dear_ones_but_not_old_ones(small_store: SmallStore) -> None:
    blocked = BlockedExecutor(small_store)
    model = LoadedModel(small_store.artifact.manifest, blocked)
    dear, cheap = (model.plan(None, limit, True) for limit in (1e12, model.plan(None, None, True).costs[0]))
    order: list[str] = []
    async with running(max_batch=1) as engine:
        images = random_images(5)

        async def ask(name: str, image: np.ndarray, plan: Plan) -> None:
            await classify(engine, model, [image], plan)
            order.append(name)

        tasks = [asyncio.create_task(ask("first", images[0], dear))]
        while not blocked.images:
            await asyncio.sleep(0.001)
        tasks.append(asyncio.create_task(ask("old", images[1], dear)))
        await asyncio.sleep(loaded.HEAD_START + 0.1)  # of an objective of one second
        tasks += [asyncio.create_task(ask("dear", image, dear)) for image in images[2:4]]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(ask("cheap", images[4], cheap)))
        await asyncio.sleep(0)
        blocked.gate.set()
        await asyncio.gather(*tasks)
    assert order == ["first", "old", "cheap", "dear", "dear"]


async def test_urgent_requests_overtake_those_that_can_wait(small_store: SmallStore) -> None:
    blocked = BlockedExecutor(small_store)
    model = LoadedModel(small_store.artifact.manifest, blocked)
    plan = model.plan(None, model.plan(None, None, True).costs[0], True)
    order: list[str] = []
    async with running(max_batch=1) as engine:
        images = random_images(4)

        async def ask(name: str, image: np.ndarray, deadline_s: float | None) -> None:
            await classify(engine, model, [image], plan, deadline_s)
            order.append(name)

        tasks = [asyncio.create_task(ask("first", images[0], None))]
        while not blocked.images:
            await asyncio.sleep(0.001)
        now_s = time.monotonic()
        tasks.append(asyncio.create_task(ask("relaxed", images[1], None)))
        tasks.append(asyncio.create_task(ask("late", images[2], now_s + 20)))
        tasks.append(asyncio.create_task(ask("urgent", images[3], now_s + 0.5)))
        await asyncio.sleep(0)
        blocked.gate.set()
        await asyncio.gather(*tasks)
    assert order == ["first", "urgent", "relaxed", "late"]
