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
    extra,
    load_artifact,
    progress,
    show_json,
)

if TYPE_CHECKING:
    from model_store.training.data import Rows
    from model_store.training.results import Evaluation
    from model_store.training.scores import SpanRunner


def evaluate(
    model: ModelArgument,
    data: DataOption,
    store: StoreOption = EMBEDDED,
    part: Annotated[str, typer.Option(help="test, or check for the budget-check rows.")] = "test",
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Mean FLOPs per image, e.g. 25M; repeatable. Default: an even grid and the published."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="FLOPs that no image may exceed, e.g. 40M; repeatable. Default: each exit's cost."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="auto, cuda, openvino or torch, as the service's setting.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, f32, bf16 or int8, as the service's setting.")
    ] = "auto",
    calibration: Annotated[
        Path | None, typer.Option(help="Report of calibrate: compares its baselines.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write the figure there, PNG: curves, published points, exit shares, images."),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(help="Result of evaluate --json for another artifact, to draw beside; repeatable."),
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            help="Write class, exit and FLOPs of each row there, JSON: under the first --budget, the first "
            "--limit, or both as one request may carry both; under the default budget without either."
        ),
    ] = None,
    record: Annotated[
        bool, typer.Option(help="Record the accuracies in the manifest; test rows only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure an artifact on labelled rows: every exit, mean budgets with the ledger, limits."""
    with extra("training"):
        from model_store.training.data import load, load_split
        from model_store.training.evaluate import evaluate as measure
        from model_store.training.plots import save_plot
        from service.cli.tables import show_evaluation

    artifact = load_artifact(store, model)
    manifest = artifact.manifest
    budgets, limits = _numbers("--budget", budget), _numbers("--limit", limit)
    rows = load(data, "test") if part == "test" else load_split(data).budget_check
    if len(rows.classes) != len(manifest.classes):
        raise Failure(
            f"{data}: {len(rows.classes)} classes, but {manifest.name} knows {len(manifest.classes)}"
        )
    controls = _controls(control or [], rows, plot)
    runner = _runner(artifact, executor, precision)
    with progress() as show:
        result = measure(
            runner,
            manifest.stages,
            manifest.policy,
            rows,
            budgets or default_budgets(artifact),
            limits=limits or _direct(artifact),
            baselines=_baselines(calibration),
            on_rows=lambda i, n: show("rows", i, n),
            model=f"{manifest.name}@{manifest.version}",
        )
        if outcomes is not None:
            mean, cap = next(iter(budgets), None), next(iter(limits), None)
            _write_outcomes(outcomes, runner, artifact, rows, mean, cap)
    if plot is not None:
        save_plot(result, manifest.task, plot, controls, rows)
    if record:
        _record(Store(store), artifact, result, part)
    if as_json:
        show_json(result.model_dump(mode="json"))
    else:
        show_evaluation(result)


def _runner(artifact: Artifact, choice: str, precision: str) -> SpanRunner:
    from model_store.training.scores import BATCH
    from service.loading import make_executor

    try:
        runner = make_executor(artifact, choice, threads=0, max_batch=BATCH, precision=precision)
    except RuntimeError as error:
        raise Failure(str(error)) from error
    if precision == "int8" and not runner.device.endswith("int8"):
        raise Failure(
            f"{artifact.manifest.name} runs on {runner.device}: exitramp quantize makes an int8 graph"
        )
    return runner


def _numbers(option: str, texts: list[str] | None) -> list[float]:
    from service.headers import parse_number

    try:
        return [parse_number(text) for text in texts or []]
    except ValueError as error:
        raise Failure(f"{option}: {error}") from error


def _controls(paths: list[Path], rows: Rows, plot: Path | None) -> list[Evaluation]:
    """Evaluations of other artifacts, which must have seen the same rows."""
    from model_store.training.panels import CONTROLS
    from model_store.training.results import Evaluation

    if len(paths) > len(CONTROLS):
        raise Failure(f"--control: the figure has room for {len(CONTROLS)}, got {len(paths)}")
    if paths and plot is None:
        raise Failure("--control is drawn into the figure, so it needs --plot")
    controls = []
    for path in paths:
        try:
            found = Evaluation.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Failure(f"{path}: not a result of evaluate --json: {error}") from error
        if (found.rows, found.count) != (rows.source, len(rows)):
            raise Failure(f"{path}: measured on {found.count} rows of {found.rows}, not on {rows.source}")
        controls.append(found if found.model else found.model_copy(update={"model": path.stem}))
    return controls


def _write_outcomes(
    path: Path, runner: SpanRunner, artifact: Artifact, rows: Rows, mean: float | None, limit: float | None
) -> None:
    """Class, exit and FLOPs of each row, a row a line."""
    from model_store.training.evaluate import outcomes

    manifest = artifact.manifest
    listed = outcomes(runner, manifest.stages, manifest.policy, rows, mean=mean, limit=limit)
    path.write_text("[\n" + ",\n".join(str(list(outcome)) for outcome in listed) + "\n]\n")


def _direct(artifact: Artifact) -> list[float]:
    return [float(flops) for flops in direct_flops(artifact.manifest.stages)]


def default_budgets(artifact: Artifact) -> list[float]:
    """The cheapest exit's cost, round budgets to just beyond the policy's curve, the published ones."""
    from model_store.training.evaluate import even_budgets
    from model_store.training.published import BUDGETS

    cheapest = min(_direct(artifact))
    published = [budget for budget in BUDGETS if budget >= cheapest]
    return sorted({cheapest, *even_budgets(artifact.manifest.policy, cheapest), *published})


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
