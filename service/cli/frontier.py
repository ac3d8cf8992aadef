"""``exitramp frontier``: accuracy of artifacts against the time that they take on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from model_store.store import EMBEDDED, Artifact
from service.cli.evaluation import default_budgets
from service.cli.options import (
    DataOption,
    Failure,
    JsonOption,
    StoreOption,
    console,
    extra,
    load_artifact,
    progress,
    show_json,
)

if TYPE_CHECKING:
    from model_store.training.data import Rows
    from model_store.training.frontier import Contestant, Frontier
    from service.cli.options import OnProgress
    from service.engine.executors import Executor


def frontier(
    models: Annotated[list[str], typer.Argument(help="Artifacts of one task; the first is compared with.")],
    data: DataOption,
    store: StoreOption = EMBEDDED,
    part: Annotated[str, typer.Option(help="test, or check for the budget-check rows.")] = "test",
    batch: Annotated[list[int] | None, typer.Option(help="Images a launch; repeatable. [1, 6, 16]")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Launches behind each median, in turns.")] = 40,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads per launch.")] = 1,
    executor: Annotated[
        str, typer.Option(help="auto, openvino or torch, as the service's setting.")
    ] = "auto",
    plot: Annotated[Path | None, typer.Option(help="Write the figure there, PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Set the accuracy of every exit and mean budget beside its measured time, for several artifacts.

    Spans run as they serve, in turns. A budget's time is that of its path's launches in full batches, each
    weighed by the share of images that gets there.
    """
    with extra("training"):
        from model_store.training.data import load, load_split
        from model_store.training.frontier import frontier as measure
        from model_store.training.frontier_plot import save_frontier
    batches = tuple(batch or (1, 6, 16))
    from service.loading import make_executor

    artifacts = [load_artifact(store, model) for model in models]
    rows = load(data, "test") if part == "test" else load_split(data).budget_check
    if {artifact.manifest.classes for artifact in artifacts} != {tuple(rows.classes)}:
        raise Failure(f"{data}: other classes than those of {', '.join(models)}")
    if min(batches) < 1 or max(batches) > len(rows):
        raise Failure(f"--batch must be 1 to {len(rows)}, the rows that there are")
    runners = [make_executor(artifact, executor, max(batches), threads) for artifact in artifacts]
    with progress() as show:
        contestants = [
            _contestant(artifact, rows, runner, show)
            for artifact, runner in zip(artifacts, runners, strict=True)
        ]
        result = measure(
            contestants,
            rows.images[: max(batches)],
            batches,
            rounds,
            device=runners[0].device,
            threads=threads,
            report=lambda done, total: show("timing", done, total),
        )
    if plot is not None:
        save_frontier(result, plot)
    if as_json:
        show_json(result.model_dump(mode="json"))
    else:
        _show(result)


def _contestant(artifact: Artifact, rows: Rows, runner: Executor, show: OnProgress) -> Contestant:
    """The artifact, evaluated on ``rows`` with the executor that is timed."""
    from model_store.training.evaluate import evaluate
    from model_store.training.frontier import Contestant
    from model_store.training.scores import collect_path

    manifest = artifact.manifest
    name = f"{manifest.name}@{manifest.version}"
    result = evaluate(
        runner,
        manifest.stages,
        manifest.policy,
        rows,
        default_budgets(artifact),
        on_rows=lambda done, total: show(f"{name}, rows", done, total),
        model=name,
    )
    scores = collect_path(runner, range(len(manifest.stages)), rows)
    contestant = Contestant(runner, manifest.stages, manifest.policy, result, scores)
    for span in contestant.spans():
        runner.prepare(span, often=True)
        runner.refine(span)
    return contestant


def _show(result: Frontier) -> None:
    """Print a table for each model: its exits, then its budgets."""
    gains = {(row.model, row.exit): row for row in result.paired}
    for model in result.models:
        table = Table(title=f"{model.model}, {result.count} rows of {result.rows}, {result.device}")
        table.add_column("", no_wrap=True)
        columns = ("MFLOPs", "accuracy", *(f"ms an image by {batch}" for batch in result.batches))
        for column in (*columns, f"against {result.models[0].model}, points"):
            table.add_column(column, justify="right")
        for number, point in enumerate((*model.exits, *model.budgets), start=1):
            times = (f"{value:.3f}" for value in point.milliseconds)
            gain = gains.get((model.model, number)) if number <= len(model.exits) else None
            text = "" if gain is None else f"{gain.gain * 100:+.2f} ± {gain.standard_error * 100:.2f}"
            table.add_row(point.name, f"{point.mean_flops / 1e6:.2f}", f"{point.accuracy:.2%}", *times, text)
        console.print(table)
