"""``exitramp plan``: machines, latency and price for a load, by simulation with measured costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.box import SIMPLE
from rich.table import Table

from model_store.store import EMBEDDED
from service.cli.options import (
    Failure,
    JsonOption,
    ModelArgument,
    OnProgress,
    StoreOption,
    console,
    extra,
    load_artifact,
    progress,
    show_json,
)
from service.headers import parse_number

if TYPE_CHECKING:
    from model_store.manifest import Manifest
    from service.simulation.measured import Measured
    from service.simulation.sizing import Sized

SAMPLES = Path(__file__).parent.parent / "playground" / "samples"
"""Images that are sent to measure what a request costs."""


@dataclass(frozen=True)
class Asked:
    """What has to hold, and what is paid."""

    p99_ms: float
    spare: int
    price: float | None


def plan(
    model: ModelArgument,
    load: Annotated[str, typer.Option(help="Requests a second of all machines, e.g. 2000; comma-separated.")],
    budget: Annotated[
        str, typer.Option(help="Mean FLOPs per image, e.g. 20M,25M; none: the default budget.")
    ] = "none",
    p99: Annotated[float, typer.Option(min=0.001, help="99 % of the answers within, milliseconds.")] = 100.0,
    price: Annotated[float | None, typer.Option(min=0, help="Of one machine for an hour.")] = None,
    spare: Annotated[int, typer.Option(min=0, help="Machines that may fail; 1: one more than needed.")] = 0,
    times: Annotated[
        Path | None, typer.Option(help="Launch times and costs: read from there, or measured and kept there.")
    ] = None,
    client_here: Annotated[
        bool, typer.Option("--client-here", help="The clients use the same processors, as in a test.")
    ] = False,
    store: StoreOption = EMBEDDED,
    as_json: JsonOption = False,
) -> None:
    """Predict throughput, latency, machines and price for a load under a budget.

    The service's own scheduler and exit rule live through random arrivals in virtual time. Launches and all
    that is around them take as long as measured on this machine, which takes about 20 seconds.
    """
    loads, budgets = _loads(load), _budgets(budget)
    artifact = load_artifact(store, model)
    with progress() as show:
        measured = _measured(model, store, artifact.manifest, budgets, times, show)
        if not client_here:
            costs = measured.costs.model_copy(update={"client_s": 0.0})
            measured = measured.model_copy(update={"costs": costs})
        sized = _size(artifact.manifest, measured, loads, budgets, Asked(p99, spare, price), show)
    if as_json:
        machine = {"machine": measured.times.machine, "costs": measured.costs.model_dump(mode="json")}
        show_json({**machine, "p99_ms": p99, "spare": spare, "rows": [asdict(row) for row in sized]})
    else:
        _show(sized, measured)


def _loads(text: str) -> list[float]:
    try:
        loads = [parse_number(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise Failure(f"--load: {error}") from error
    if not loads:
        raise Failure("--load names no load")
    return loads


def _budgets(text: str) -> list[float | None]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return [None if name == "none" else parse_number(name) for name in names] or [None]
    except ValueError as error:
        raise Failure(f"--budget: {error}") from error


def _measured(
    name: str,
    store: Path,
    manifest: Manifest,
    budgets: list[float | None],
    kept: Path | None,
    show: OnProgress,
) -> Measured:
    """From the file, or from measurements, which then are kept there."""
    from model_store.policy import make_plan
    from service.simulation.measured import Measured

    plans = [make_plan(manifest.policy, manifest.stages, budget, None) for budget in budgets]
    if kept is not None and kept.exists():
        try:
            measured = Measured.model_validate_json(kept.read_bytes())
        except (OSError, ValidationError) as error:
            raise Failure(f"--times: {kept} holds no launch times and costs") from error
    else:
        measured = _measure(name, store, budgets, show)
        if kept is not None:
            kept.write_text(measured.model_dump_json(indent=1) + "\n")
    key = f"{manifest.name}@{manifest.version}"
    if measured.times.model != key:
        raise Failure(f"--times: {kept} is of {measured.times.model}, not of {key}")
    missing = {str(span) for one in plans for span in one.spans()} - set(measured.times.spans)
    if missing:
        raise Failure(f"--times: {kept} lacks the stages {', '.join(sorted(missing))} of these budgets")
    return measured


def _measure(name: str, store: Path, budgets: list[float | None], show: OnProgress) -> Measured:
    with extra("loadtest"):
        from loadtest.errors import LoadTestError
        from service.cli.plan_costs import measure_costs, measure_times
    from service.loading import load_model, prepare
    from service.settings import Settings
    from service.simulation.measured import Measured

    show("loading", 0, 4)
    settings = Settings(model_store=store, models=(name,))
    model = load_model(settings, name)
    prepare(model)
    show("launches", 1, 4)
    times = measure_times(model, settings, budgets)
    show("requests", 2, 4)
    samples = sorted(SAMPLES.glob(f"{model.manifest.task}-*")) or sorted(SAMPLES.glob("*-*"))
    files = [path.read_bytes() for path in samples]
    try:
        costs = measure_costs(model, times, budgets[0], files, store)
    except (LoadTestError, OSError) as error:
        raise Failure(f"the service cannot be measured: {error}") from error
    return Measured(times=times, costs=costs)


def _size(
    manifest: Manifest,
    measured: Measured,
    loads: Sequence[float],
    budgets: Sequence[float | None],
    asked: Asked,
    show: OnProgress,
) -> list[Sized]:
    """A row for each budget and load."""
    import torch

    from service.simulation.sizing import ImpossibleError, Sizing

    torch.set_num_threads(1)  # what is computed here is tiny
    rows = []
    for number, budget in enumerate(budgets):
        show("simulating", number, len(budgets))
        try:
            sizing = Sizing(manifest, measured.times, measured.costs, budget)
            rate = sizing.rate_for(asked.p99_ms)
        except ImpossibleError as error:
            raise Failure(f"budget {_named(budget)}: {error}") from error
        rows += [sizing.size(load, rate, asked.spare, asked.price) for load in loads]
    return rows


def _named(budget: float | None) -> str:
    return "none" if budget is None else f"{budget / 1e6:g}M"


def _show(rows: Sequence[Sized], measured: Measured) -> None:
    """A column for each budget and load."""
    costs = measured.costs
    title = (
        f"{measured.times.model}, {measured.times.machine}; Python: request {costs.request_s * 1e6:.0f} µs, "
        f"a launch {costs.launch_s * 1e6:.0f}, each image in it {costs.image_s * 1e6:.0f}"
    )
    table = Table(title=title, box=SIMPLE, pad_edge=False)
    table.add_column("load /s")
    for row in rows:
        table.add_column(f"{row.load:g}", justify="right")
    lines: dict[str, Callable[[Sized], str]] = {
        "mean budget": lambda row: _named(row.budget),
        "accuracy, %": lambda row: f"{row.accuracy * 100:.2f}",
        "one machine, users without a pause, /s": lambda row: f"{row.capacity:.0f}",
        "one machine in time, /s": lambda row: f"{row.rate:.0f}",
        "machines": lambda row: str(row.machines),
        "used, %": lambda row: f"{row.utilisation * 100:.0f}",
        "p50, ms": lambda row: f"{row.p50_ms:.1f}",
        "p99, ms": lambda row: f"{row.p99_ms:.1f}",
        "images in a launch of the first stage": lambda row: f"{row.mean_batch:.1f}",
        "price of a million images": lambda row: "" if row.per_million is None else f"{row.per_million:.4f}",
    }
    for name, cell in lines.items():
        table.add_row(name, *map(cell, rows))
    console.print(table)
