"""``exitramp evaluate``: progress on standard error, results on output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store.flops import direct_flops
from model_store.store import EMBEDDED, Artifact, Store
from service.cli.options import (
    DataOption,
    Failure,
    JsonOption,
    ModelArgument,
    StoreOption,
    load_artifact,
    progress,
    show_json,
    training_extra,
)

if TYPE_CHECKING:
    from model_store.training.data import Rows
    from model_store.training.evaluate import Evaluation
    from model_store.training.scores import SpanRunner


def evaluate(
    model: ModelArgument,
    data: DataOption,
    store: StoreOption = EMBEDDED,
    part: Annotated[str, typer.Option(help="test, or check for the budget-check rows.")] = "test",
    budget: Annotated[
        list[str] | None, typer.Option(help="Mean FLOPs per image, e.g. 25M; repeatable.")
    ] = None,
    executor: Annotated[
        str, typer.Option(help="auto, openvino or torch, as the service's setting.")
    ] = "auto",
    calibration: Annotated[
        Path | None, typer.Option(help="Report of calibrate: compares its baselines.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the accuracy-FLOPs figure there, PNG.")] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(help="Write class, exit and FLOPs of each row at the first --budget there, JSON."),
    ] = None,
    record: Annotated[
        bool, typer.Option(help="Record the accuracies in the manifest; test rows only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure an artifact on labelled rows: every exit, mean budgets with the ledger, limits."""
    with training_extra():
        from model_store.training.data import load, load_split
        from model_store.training.evaluate import evaluate as measure
        from model_store.training.plots import save_plot
        from service.cli.tables import show_evaluation
    from service.headers import parse_number
    from service.registry import make_executor

    artifact = load_artifact(store, model)
    manifest = artifact.manifest
    rows = load(data, "test") if part == "test" else load_split(data).budget_check
    try:
        budgets = [parse_number(text) for text in budget or []]
    except ValueError as error:
        raise Failure(f"--budget: {error}") from error
    runner = make_executor(artifact, executor, threads=0)
    with progress() as show:
        result = measure(
            runner,
            manifest.stages,
            manifest.policy,
            rows,
            budgets or _default_budgets(artifact),
            limits=_direct(artifact),
            baselines=_baselines(calibration),
            on_rows=lambda i, n: show("rows", i, n),
        )
        if outcomes is not None:
            _write_outcomes(outcomes, runner, artifact, rows, budgets)
    if plot is not None:
        save_plot(result, manifest.task, plot, f"{manifest.name}@{manifest.version} on {rows.source}")
    if record:
        _record(Store(store), artifact, result, part)
    if as_json:
        show_json(result.model_dump(mode="json"))
    else:
        show_evaluation(result)


def _write_outcomes(
    path: Path, runner: SpanRunner, artifact: Artifact, rows: Rows, budgets: list[float]
) -> None:
    """Class, exit and FLOPs of each row at the first budget, a row a line."""
    from model_store.training.evaluate import outcomes

    manifest = artifact.manifest
    mean = budgets[0] if budgets else None
    listed = outcomes(runner, manifest.stages, manifest.policy, rows, mean=mean)
    path.write_text("[\n" + ",\n".join(str(list(outcome)) for outcome in listed) + "\n]\n")


def _direct(artifact: Artifact) -> list[float]:
    return [float(flops) for flops in direct_flops(artifact.manifest.stages)]


def _default_budgets(artifact: Artifact) -> list[float]:
    """Two dozen budgets from the first exit's cost to the last one's."""
    first, *_, last = [*_direct(artifact)[:1], *_direct(artifact)]
    return [first * 1.02 + (last - first * 1.02) * i / 23 for i in range(24)]


def _baselines(path: Path | None) -> tuple[Any, ...]:
    from model_store.training.report import CalibrationReport

    if path is None:
        return ()
    try:
        return CalibrationReport.model_validate_json(path.read_bytes()).baselines
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: not a calibration report: {error}") from error


def _record(store: Store, artifact: Artifact, result: Evaluation, part: str) -> None:
    if part != "test":
        raise Failure("--record is for the test rows")
    manifest = artifact.manifest
    specs = [
        spec.model_copy(update={"test_accuracy": measured.accuracy})
        for spec, measured in zip(manifest.exits, result.exits, strict=True)
    ]
    rows = {**manifest.provenance.rows, "test": result.rows}
    provenance = manifest.provenance.model_copy(update={"rows": rows})
    store.replace_manifest(manifest.model_copy(update={"exits": tuple(specs), "provenance": provenance}))
