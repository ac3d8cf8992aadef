"""``exitramp plan`` and ``schedule``: arithmetic, output, and asks that nobody can fulfil."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from conftest import SmallStore
from typer.testing import CliRunner

from service.cli import app
from service.cli.options import Failure
from service.cli.plan_costs import Busy, costs_of
from service.profiling.span_times import LaunchTime, SpanTimes
from service.simulation import sizing
from service.simulation.costs import Costs
from service.simulation.known import KnownImages
from service.simulation.measured import Measured
from service.simulation.serve import Rules
from service.simulation.sizing import ImpossibleError, Sizing, per_million
from service.simulation.sweep import sweep
from service.simulation.sweep_report import draw, to_markdown
from service.simulation.traffic import poisson

COSTS = Costs(receive_s=2e-4, respond_s=1e-4, client_s=1e-4, cores=2, threads=1)


def launches(first_ms: float, each_ms: float) -> dict[int, LaunchTime]:
    """A straight line over the batch size."""
    seconds = {size: (first_ms + each_ms * size) / 1000 for size in (1, 32)}
    return {size: LaunchTime(median_s=s, low_s=s, high_s=s) for size, s in seconds.items()}


def measured(model: str = "small@1", **spans: dict[int, LaunchTime]) -> Measured:
    found = {"1": launches(1, 0.5), "2": launches(1, 0.3), "3-4": launches(1, 0.4), **spans}
    times = SpanTimes(
        model=model, device="CPU", precision="f32", threads=1, machine="two", rounds=1, spans=found
    )
    return Measured(times=times, costs=COSTS)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short simulations."""
    monkeypatch.setattr(sizing, "REQUESTS", 300)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    place = tmp_path / "times.json"
    place.write_text(measured().model_dump_json())
    return place


def asked(store: SmallStore, *arguments: object) -> Result:
    command = ["plan", "small", "--store", str(store.root), *map(str, arguments)]
    return CliRunner().invoke(app, command, catch_exceptions=True)


def test_the_price_of_a_million_is_that_of_the_hours_that_it_takes() -> None:
    assert per_million(0.36, machines=1, load=100.0) == pytest.approx(1.0)  # 10,000 s at 0.0001 a second
    assert per_million(0.36, machines=3, load=100.0) == pytest.approx(3.0)


def test_python_of_a_request_is_what_is_left_of_the_processor_without_launches() -> None:
    times = measured().times
    busy = Busy(
        server_s=0.010,
        client_s=0.001,
        launches={"1": 0.5, "4": 9.0},
        images={"1": 1.0, "4": 9.0},
        seconds={"1": 0.5 * (0.002 + 0.0007), "4": 9.0},
    )
    costs = costs_of(busy, times, launch_s=0.0004, image_s=0.0001, machine_cores=2)
    # Half a launch of 2 images, 2 ms, and what follows it; stages that nobody measured are not known.
    assert costs.request_s == pytest.approx(0.010 - 0.5 * 0.002 - 0.5 * 0.0004 - 0.0001)
    assert costs.among_s == pytest.approx(0.0007)
    assert (costs.client_s, costs.cores, costs.threads) == (0.001, 2, 1)


@pytest.mark.usefixtures("few")
def test_machines_are_enough_for_the_load_and_no_more(small_store: SmallStore) -> None:
    manifest, found = small_store.artifact.manifest, measured()
    one = Sizing(manifest, found.times, found.costs, None)
    rate = one.rate_for(50.0)
    assert one.at(rate).latency_s(0.99) <= 0.050
    assert 0.5 * one.capacity < rate < 1.2 * one.capacity
    sized = one.size(4.5 * rate, rate, price=0.5)
    assert sized.machines == 5
    assert sized.utilisation == pytest.approx(0.9 * rate / one.capacity)
    assert sized.per_million == pytest.approx(per_million(0.5, 5, 4.5 * rate))
    spared = one.size(4.5 * rate, rate, spare=1)
    assert spared.machines == 6 and spared.per_million is None and spared.utilisation < sized.utilisation


@pytest.mark.usefixtures("few")
def test_a_tighter_latency_needs_more_machines_and_a_tiny_one_cannot_be_held(small_store: SmallStore) -> None:
    found = measured()
    one = Sizing(small_store.artifact.manifest, found.times, found.costs, None)
    assert one.rate_for(8.0) < one.rate_for(80.0)
    with pytest.raises(ImpossibleError, match=r"on an idle machine it is \d+\.\d ms"):
        one.rate_for(1.0)


@pytest.mark.usefixtures("few")
def test_the_command_prints_a_row_for_each_budget_and_load(small_store: SmallStore, kept: Path) -> None:
    arguments = ("--load", "100,5k", "--budget", "none,1T", "--price", "0.1", "--times", kept)
    told = json.loads(asked(small_store, *arguments, "--json").stdout)
    assert [(row["load"], row["budget"]) for row in told["rows"]] == [
        (100, None),
        (5000, None),
        (100, 1e12),
        (5000, 1e12),
    ]
    assert told["costs"]["client_s"] == 0.0  # the clients are elsewhere
    small, large = told["rows"][:2]
    assert small["machines"] == 1 < large["machines"] and small["p99_ms"] <= 100
    again = json.loads(asked(small_store, *arguments, "--json", "--client-here").stdout)
    assert again["costs"]["client_s"] == COSTS.client_s
    table = asked(small_store, "--load", "100", "--times", kept)
    assert (table.exit_code == 0 and "machines" in table.stdout.replace("\n", "")) or "mach" in table.stdout


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--load", "many"), "--load: 'many' is not a positive number"),
        (("--load", ","), "--load names no load"),
        (("--load", "9", "--budget", "-3"), "--budget: '-3' is not a positive number"),
        (("--load", "9", "--p99", "0.5"), "a p99 of 0.5 ms cannot be held: on an idle machine it is"),
    ],
)
def test_what_cannot_be_planned_is_said(
    small_store: SmallStore, kept: Path, arguments: tuple[str, ...], reason: str
) -> None:
    result = asked(small_store, *arguments, "--times", kept)
    assert isinstance(result.exception, Failure) and reason in str(result.exception)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "holds no launch times and costs"),
        (measured(model="other@1").model_dump_json(), "is of other@1, not of small@1"),
    ],
)
def test_times_of_something_else_are_refused(
    small_store: SmallStore, kept: Path, content: str, reason: str
) -> None:
    kept.write_text(content)
    result = asked(small_store, "--load", "9", "--times", kept)
    assert isinstance(result.exception, Failure) and reason in str(result.exception)


def test_times_without_a_stage_of_the_budget_are_refused(small_store: SmallStore, kept: Path) -> None:
    found = measured()
    spans = {name: times for name, times in found.times.spans.items() if name != "2"}
    less = found.model_copy(update={"times": found.times.model_copy(update={"spans": spans})})
    kept.write_text(less.model_dump_json())
    result = asked(small_store, "--load", "9", "--times", kept)
    assert isinstance(result.exception, Failure) and "lacks the stages 2" in str(result.exception)


def test_a_sweep_is_a_row_for_each_variant_and_load_and_a_figure(
    small_store: SmallStore, tmp_path: Path, known: KnownImages
) -> None:
    variants = {"images": {"32 (served)": Rules(), "2": Rules(max_batch=2)}}
    trace = poisson(100.0, 150, len(known))
    result = sweep(
        small_store.artifact.manifest,
        known,
        measured(),
        trace,
        (0.5, 1.2),
        2,
        variants,
        lambda done, total: None,
    )
    assert [(row.value, row.load) for row in result.rows] == [
        ("32 (served)", 0.5),
        ("32 (served)", 1.2),
        ("2", 0.5),
        ("2", 1.2),
    ]
    assert result.rows[3].p99_ms > result.rows[1].p99_ms  # small batches cannot keep up
    assert all(row.p99_range_ms[0] <= row.p99_ms <= row.p99_range_ms[1] for row in result.rows)
    draw(result, tmp_path / "schedule.png")
    assert (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")
    lines = to_markdown(result, "exitramp schedule", "schedule.png").splitlines()
    assert sum(line.startswith("| 32 (served) |") or line.startswith("| 2 |") for line in lines) == 4


@pytest.fixture
def known() -> KnownImages:
    import torch

    drawn = torch.Generator().manual_seed(0)
    return KnownImages(
        3 * torch.randn(4, 50, 10, generator=drawn), torch.zeros(50, dtype=torch.int64), "small@1"
    )
