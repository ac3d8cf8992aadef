"""Models that are unwell: what counts as that, who is tried again, and what a trial tells."""

from __future__ import annotations

import gc

import pytest
import torch
from conftest import SmallStore, random_images
from engines import FailingExecutor, classify, running, torch_model

from model_store.nets.staged import Span
from service.engine.brownout import Brownout
from service.engine.executors import TorchExecutor
from service.engine.health import (
    FAILURES,
    TRIAL_S,
    Health,
    NotFinite,
    Trials,
    Unwell,
    helps_to_halve,
    reason_of,
)
from service.engine.launches import Launches
from service.engine.loaded import LoadedModel
from service.engine.ticket import LaunchError
from service.engine.watch import DriftWatch
from service.loading import warm_up
from service.metrics import Metrics

FIRST, LAST = Span(0, 1), Span(2, 3)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (ValueError("out of memory"), "error"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "error"),
        (NotFinite(FIRST, 1), "not_finite"),
    ],
)
def test_a_failure_has_a_reason_and_only_want_of_memory_asks_for_less(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
    assert not helps_to_halve(error, 1)
    assert helps_to_halve(error, 2) == (reason != "error")


def test_a_batch_that_is_no_number_at_all_is_not_run_again() -> None:
    assert helps_to_halve(NotFinite(FIRST, 7), 8) and not helps_to_halve(NotFinite(FIRST, 8), 8)


def health_of(store: SmallStore) -> Health:
    return torch_model(store).health


def test_a_span_must_fail_in_a_row_and_others_do_not_count_for_it(small_store: SmallStore) -> None:
    health = health_of(small_store)
    for _ in range(FAILURES - 1):
        assert not health.failed(LAST)
    health.worked(FIRST)
    health.worked(LAST)
    for _ in range(FAILURES - 1):
        assert not health.failed(LAST) and not health.failed(FIRST)
    health.check()
    health.worked(FIRST)
    assert health.failed(LAST) and not health.failed(LAST)
    with pytest.raises(Unwell, match=f"small@1: {FAILURES} launches in a row failed") as told:
        health.check()
    assert told.value.retry_after_s == TRIAL_S


def test_a_policy_put_in_force_mends_nothing(small_store: SmallStore) -> None:
    model = torch_model(small_store)
    assert model.with_policy(model.policy).health is model.health


def test_who_is_unloaded_is_not_tried_any_more(small_store: SmallStore) -> None:
    trials, stays, goes = Trials(), health_of(small_store), health_of(small_store)
    trials.put(goes, 10.0)
    trials.put(stays, 10.5)
    assert trials.next_s == 10.0 + TRIAL_S
    assert trials.take(10.9) is None
    del goes
    gc.collect()
    assert trials.take(11.2) is None and trials.next_s == 10.5 + TRIAL_S
    assert trials.take(11.5) is stays and trials.take(100.0) is None and trials.next_s is None


def test_a_model_without_numbers_is_not_loaded(small_store: SmallStore) -> None:
    failing = FailingExecutor(small_store)
    model = LoadedModel(small_store.artifact.manifest, failing)
    with pytest.raises(NotFinite):
        warm_up(model)
    failing.broken = False
    warm_up(model)


async def test_nothing_is_launched_for_who_waits_once_the_model_is_unwell(small_store: SmallStore) -> None:
    model = LoadedModel(small_store.artifact.manifest, FailingExecutor(small_store))
    plan, image = model.plan(None, 1e12, True), random_images(1)[0]
    async with running() as engine:
        for _ in range(FAILURES):
            with pytest.raises(LaunchError, match="not finite"):
                await classify(engine, model, [image], plan)
        with pytest.raises(Unwell):
            await classify(engine, model, [image], plan)
        with pytest.raises(Unwell):
            engine.check([model])
        engine.check()


class Lost(TorchExecutor):
    """What a process has of a GPU after an error of the kind that stays."""

    def run(self, *_: object) -> object:  # type: ignore[override]
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be")


def test_a_device_that_is_lost_for_this_process_is_said_to_be(small_store: SmallStore) -> None:
    artifact, reasons, metrics = small_store.artifact, list[str](), Metrics()
    health = Health(
        "small@1", Lost(artifact.net, artifact.manifest.input, torch.device("cpu")), artifact.manifest.input
    )
    launches = Launches(metrics, Brownout(1.0, False), DriftWatch(0.0, metrics), on_lost=reasons.append)
    launches.try_out(health)
    assert reasons == []
    for _ in range(FAILURES):
        health.failed(LAST)
    launches.try_out(health)
    assert reasons == ["the device is lost: CUDA error: unspecified launch failure"]
    assert launches.running is None and launches.trials.next_s is not None
