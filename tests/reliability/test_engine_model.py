"""Whatever happens to the engine, in whatever order: every request ends once, and rightly."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np
import pytest
from conftest import SmallStore, small_manifest, small_net
from figures import Figure
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from script_steps import LONGEST_S, Arrive, Launch, Leave, Pass, Reload, Step, same
from scripts import Request, Stage, Version

from model_store import ledger
from model_store.policy import Plan
from model_store.store import Store
from service.engine import admission, engine, submission, watchdog
from service.engine.admission import NoPermit
from service.engine.loaded import LoadedModel
from service.engine.ticket import Expired, LaunchError, Prediction
from service.engine.worker import Worker

SECONDS = st.sampled_from([0.0, 0.001, 0.02, LONGEST_S])
ARRIVALS = st.builds(
    Arrive,
    images=st.sampled_from([1, 1, 1, 2, 3, 7]),
    plan=st.integers(0, 9),
    deadline_s=st.sampled_from([None, None, None, 0.001, 0.05, 0.3, 5.0]),
)
FATES = st.sampled_from([*["right"] * 8, "raises", "out of memory", "all NaN", "one NaN"])
LAUNCHES = st.builds(Launch, fate=FATES, seconds=SECONDS)
OTHERS = st.one_of(st.builds(Leave, st.integers(0, 5)), st.builds(Pass, SECONDS), st.builds(Reload))
STEPS = st.sampled_from([ARRIVALS] * 4 + [LAUNCHES] * 6 + [OTHERS]).flatmap(lambda kind: kind)
SCRIPTS = st.lists(STEPS, min_size=20, max_size=60)
ROOM = st.sampled_from([1, 2, 5, 16])


@dataclass
class Totals:
    """What all scripts of a test were."""

    scripts: int = 0
    images: int = 0
    launches: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        ends = ", ".join(f"{count:,} {end}" for end, count in sorted(self.ends.items()))
        return f"{self.scripts:,} scripts, {self.launches:,} launches, {self.images:,} images: {ends}"


def plans(model: LoadedModel) -> list[Plan]:
    """The default, budgets over the whole range, limits, both; with and without exits on the way."""
    costs = model.plan(None, None, True).costs
    means = np.linspace(costs[0] * 1.05, costs[-1] * 0.98, 4)
    asked = [(None, None), *((float(mean), None) for mean in means), (costs[-1] * 0.8, costs[1])]
    limited = [(None, costs[0] * 1.2), (None, costs[-1] * 1.0)]
    return [model.plan(*each, True) for each in asked + limited] + [
        model.plan(*each, False) for each in limited
    ]


@pytest.fixture
def versions(small_store: SmallStore, tmp_path: Path) -> list[Version]:
    """Two versions of a model whose answers differ."""
    store = Store(tmp_path)
    store.publish(*small_manifest(small_net(7), version=2))
    return [Version(small_store.artifact), Version(store.load("small"))]


@pytest.fixture(autouse=True)
def accounts_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small policy's means are made up; as with calibrated ones, accounts move no thresholds."""
    monkeypatch.setattr(ledger, "STEP", inf)
    monkeypatch.setattr(ledger, "RESERVE", inf)


@pytest.mark.parametrize("examples", [150, pytest.param(1_000, marks=pytest.mark.soak)])
def test_every_request_of_any_script_ends_once_as_if_it_were_alone_or_with_an_error(
    versions: list[Version], figure: Figure, examples: int
) -> None:
    totals = Totals()

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(script=SCRIPTS, max_batch=ROOM)
    def play(script: list[Step], max_batch: int) -> None:
        stage = Stage(versions, plans)
        with pytest.MonkeyPatch.context() as patch:
            for module in (admission, engine, submission, watchdog):
                patch.setattr(module, "time", stage.clock)
            patch.setitem(Worker.__init__.__kwdefaults__, "clock", stage.clock.monotonic)
            stage.play(script, max_batch)
        totals.scripts += 1
        totals.launches += stage.device.launches
        judge_stage(stage)
        for request in stage.requests:
            judge(request, totals)

    try:
        play()
    finally:
        figure(7, str(totals))
    assert totals.ends["right"] > totals.scripts
    assert min(totals.ends[end] for end in ("left", "refused", "failed", "expired", "right, in parts")) > 0


def judge(request: Request, totals: Totals) -> None:
    """Every request ends exactly once: with right answers, or with what happened to it."""
    (end,) = request.ends
    totals.images += len(request.numbers)
    assert request.deadline_s is None or request.ended_s <= request.deadline_s + LONGEST_S
    if isinstance(end, BaseException):
        kinds = {LaunchError: "failed", NoPermit: "refused", asyncio.CancelledError: "left"}
        (kind,) = [kind for base, kind in kinds.items() if isinstance(end, base)]  # nothing else may come out
        totals.ends[kind] += len(request.numbers)
        assert request.left == isinstance(end, asyncio.CancelledError)
        return
    assert len(end) == len(request.numbers)
    for number, outcome in zip(request.numbers, end, strict=True):
        if isinstance(outcome, Expired):
            assert request.deadline_s is not None
            totals.ends["expired"] += 1
            continue
        assert isinstance(outcome, Prediction)
        judge_answer(request, number, outcome)
        totals.ends["right"] += 1
    for said in request.passed:
        assert any(
            same(request.version.rows(number, request.plan)[position_of(request.plan, said)], said)
            for number in request.numbers
        )
    if request.plan.budget is not None and len(end) > 1:
        totals.ends["right, in parts"] += 1
        spent = sum(answer.flops for answer in end if isinstance(answer, Prediction))
        assert spent <= len(end) * request.plan.budget


def position_of(plan: Plan, answer: Prediction) -> int:
    position = plan.exits.index(answer.exit - 1)
    assert answer.flops == plan.costs[position]
    return position


def judge_answer(request: Request, number: int, answer: Prediction) -> None:
    """What an exit says of the image alone; without deadline or company, the exit where it leaves alone."""
    plan, rows = request.plan, request.version.rows(number, request.plan)
    position = position_of(plan, answer)
    assert same(rows[position], answer)
    if plan.budget is not None and len(request.numbers) > 1:
        return
    near = [abs(row[0] - threshold) < 1e-4 for row, threshold in zip(rows, plan.thresholds, strict=True)]
    alone = next(k for k, row in enumerate(rows) if row[0] >= plan.thresholds[k])
    if not any(near[:-1]):
        assert position == alone or (request.deadline_s is not None and position < alone)


def judge_stage(stage: Stage) -> None:
    """Nothing is left behind, and nothing was executed for those who had left before."""
    assert not stage.waiting_for_ever
    assert not stage.complaints
    assert not stage.barred & stage.device.begun
    assert (stage.engine.admission.in_flight, stage.engine.admission.arriving) == (0, 0)
    assert stage.depth == 0
