"""What the engine does beside answering: passing exits on, re-checks, policies on trial."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from conftest import SmallStore, random_images
from engines import alone, classify, running, torch_model

from model_store import ledger
from model_store.policy import Policy
from service.engine.engine import Engine
from service.engine.shadow import Shadow
from service.engine.ticket import Prediction
from service.metrics import Metrics


async def test_every_exit_on_the_way_is_told_to_who_wants_to_know(small_store: SmallStore) -> None:
    model = torch_model(small_store)
    (image,) = random_images(1)
    plan = model.plan(None, 1e12, False)
    told: list[Prediction] = []
    async with running() as engine:
        with engine.admit() as permit:
            submission = engine.submit(
                model, [image], plan, permit, passing=lambda _, prediction: told.append(prediction)
            )
            (answer,) = await submission.outcomes()
    assert isinstance(answer, Prediction)
    assert [said.exit for said in told] + [answer.exit] == [k + 1 for k in plan.exits]
    assert [said.flops for said in told] + [answer.flops] == list(plan.costs)


async def test_early_leavers_are_checked_when_there_is_nothing_else_to_do(
    small_store: SmallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "STEP", inf)  # nobody leaves because an account runs dry
    monkeypatch.setattr(ledger, "RESERVE", inf)
    model = torch_model(small_store)
    plan = model.plan(None, None, True)
    metrics = Metrics()
    engine = Engine(
        metrics, max_in_flight=512, max_batch=8, max_wait_s=0.001, recheck_share=1.0, objective_s=1.0
    )
    engine.start()
    answers = [(await classify(engine, model, [image], plan))[0] for image in random_images(60, seed=4)]
    while sum(_rechecks(metrics, k) for k in (1, 2, 3)) < sum(answer.exit < 4 for answer in answers):
        await asyncio.sleep(0.01)
    await engine.stop()
    last = model.plan(None, 1e12, True)
    exits = {answer.exit for answer in answers} - {4}
    assert exits
    for k in exits:
        left = [i for i, answer in enumerate(answers) if answer.exit == k]
        images = random_images(60, seed=4)
        agree = [alone(model, images[i], last)[0] == answers[i].classes[0] for i in left]
        shown = metrics.exit_agreement.labels("small", str(k))._value.get()  # type: ignore[attr-defined]
        assert shown == pytest.approx(sum(agree) / len(agree))
        agreed = metrics.rechecks_agreed.labels("small", str(k))._value.get()  # type: ignore[attr-defined]
        assert (agreed, _rechecks(metrics, k)) == (sum(agree), len(agree))
    # A re-check waits until nobody else does: that is no queue.
    waited, launched = _by_stage(metrics, "stage_queue_seconds"), _by_stage(metrics, "batch_size")
    assert waited[min(waited)] == launched[min(waited)] and set(waited) < set(launched)


async def test_a_policy_on_trial_sees_the_same_images_and_answers_nobody(small_store: SmallStore) -> None:
    model = torch_model(small_store)
    default = model.policy.default_flops * 1.2
    richer = Policy.model_validate({**model.policy.model_dump(), "default_flops": default})
    model.shadow = Shadow(model, richer, 0.5)
    plan = model.plan(None, None, True)
    async with running() as engine:
        images = random_images(40, seed=5)
        answers = []
        for image in images:
            with engine.admit() as permit:
                answers += await engine.submit(model, [image], plan, permit).outcomes()
        while model.shadow.images < 20:
            await asyncio.sleep(0.01)
    live, tried = model.shadow.flops
    assert live == sum(answer.flops for answer in answers[::2])  # type: ignore[union-attr]
    assert tried > live and 0 < model.shadow.agreed <= 20


def _by_stage(metrics: Metrics, name: str) -> dict[str, float]:
    """How often each stage observed something."""
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    counts = [sample for sample in samples if sample.name == f"exitramp_{name}_count"]
    return {sample.labels["stage"]: sample.value for sample in counts}


def _rechecks(metrics: Metrics, k: int) -> float:
    value: float = metrics.rechecks.labels("small", str(k))._value.get()  # type: ignore[attr-defined]
    return value
