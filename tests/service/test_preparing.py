"""What is compiled once a model serves already."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lifecycles import begun, publish, settings_of

from model_store.nets.staged import Span
from model_store.store import Store
from service import loading
from service.engine.executors import TorchExecutor
from service.engine.loaded import LoadedModel
from service.lifecycle import Lifecycle

WAIT_S = 20


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    publish(Store(tmp_path), 1)
    return Store(tmp_path)


async def resting(lifecycle: Lifecycle) -> None:
    assert lifecycle._preparing is not None
    await asyncio.wait_for(lifecycle._preparing, WAIT_S)


async def test_what_is_not_needed_at_once_is_prepared_while_the_model_serves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[tuple[str, bool]] = []

    def prepare(model: LoadedModel, stopping: Callable[[], bool]) -> None:
        prepared.append((model.key, stopping()))

    monkeypatch.setattr("service.lifecycle.prepare_meanwhile", prepare)
    lifecycle = await begun(settings_of(store))
    await resting(lifecycle)
    publish(store, 2)
    await lifecycle.load("small")
    await resting(lifecycle)
    assert prepared == [("small@1", False), ("small@2", False)]
    await lifecycle.close()


@pytest.mark.parametrize("end", ["closed", "unloaded"])
async def test_preparing_ends_with_the_service_and_with_the_model(
    store: Store, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    ended: list[str] = []
    under_way, late = threading.Event(), threading.Event()

    def prepare(model: LoadedModel, stopping: Callable[[], bool]) -> None:
        under_way.set()
        while not stopping() and not late.wait(0.001):
            pass
        ended.append("in time" if stopping() else "late")

    monkeypatch.setattr("service.lifecycle.prepare_meanwhile", prepare)
    lifecycle = await begun(settings_of(store))
    assert await asyncio.to_thread(under_way.wait, WAIT_S)
    asyncio.get_running_loop().call_later(WAIT_S, late.set)
    await (lifecycle.unload("small") if end == "unloaded" else lifecycle.close())
    await resting(lifecycle)
    assert ended == ["in time"]
    await lifecycle.close()


async def test_what_somebody_may_wait_for_comes_before_what_makes_launches_faster(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle = await begun(settings_of(store))
    await resting(lifecycle)
    (model,) = lifecycle.registry.models.values()
    steps: list[tuple[str, Span]] = []
    for name in ("prepare", "refine"):
        monkeypatch.setattr(
            TorchExecutor, name, lambda _, span, often=False, name=name: steps.append((name, span))
        )
    loading.prepare(model)
    default = model.default_spans()
    others = [span for span in model.served_spans() if span not in default]
    assert steps == [
        *(("prepare", span) for span in (*default, *others)), *(("refine", span) for span in default)
    ]  # fmt: skip
    await lifecycle.close()


async def test_a_span_that_cannot_be_prepared_is_logged_and_the_others_are_prepared(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lifecycle = await begun(settings_of(store))
    await resting(lifecycle)
    (model,) = lifecycle.registry.models.values()
    first, *others = [span for span in model.served_spans() if span not in model.default_spans()]
    prepared: list[Span] = []

    def prepare(executor: TorchExecutor, span: Span, often: bool = False) -> None:
        if span == first:
            raise RuntimeError("the compiler has no such operation")
        prepared.append(span)

    monkeypatch.setattr(TorchExecutor, "prepare", prepare)
    loading.prepare_meanwhile(model, lambda: False)
    (record,) = [record for record in caplog.records if record.message == "prepare_failed"]
    assert record.__dict__["model"] == "small@1"
    assert others and prepared[-len(others) :] == others
    with pytest.raises(RuntimeError):  # whoever waits for it is told
        loading.prepare(model)
    await lifecycle.close()
