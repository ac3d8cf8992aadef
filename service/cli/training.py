"""``exitramp train``, ``calibrate``, ``evaluate``: progress on standard error, results on output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model_store.store import EMBEDDED, Artifact, Store, with_policy
from service.cli.options import DataOption, Failure, JsonOption, StoreOption, console, show_json

if TYPE_CHECKING:
    from model_store.training.data import Rows, Split
    from model_store.training.evaluate import Evaluation
    from model_store.training.report import CalibrationReport
    from model_store.training.scores import SpanRunner
    from model_store.training.train import Run

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""

ModelArgument = Annotated[str, typer.Argument(help="Artifact, name or name@version.")]
ReportOption = Annotated[Path | None, typer.Option(help="Write the account of the calibration there, JSON.")]


def train(
    recipe: Annotated[str, typer.Argument(help="Recipe, named like the artifact it makes.")],
    data: DataOption,
    store: StoreOption = EMBEDDED,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints; a run is resumed from there.")] = Path(
        "runs"
    ),
    seed: Annotated[int, typer.Option(help="Of initialisation, order and augmentation.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    compile_net: Annotated[bool, typer.Option("--compile/--no-compile", help="Use torch.compile.")] = True,
) -> None:
    """Train a recipe, calibrate the result and publish it as the artifact's next version.

    Interrupted with Ctrl-C, it goes on from the last whole epoch when the same command is given again.
    """
    with _training_extra():
        from model_store.training.data import load_split
        from model_store.training.publish import make_artifact
        from model_store.training.recipes import RECIPES
        from model_store.training.train import Run
    if recipe not in RECIPES:
        raise Failure(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    chosen = RECIPES[recipe] if epochs is None else RECIPES[recipe].model_copy(update={"epochs": epochs})
    split = load_split(data)
    run = Run(chosen, split.train, runs / recipe, seed=seed, compile_net=compile_net)
    with _progress() as show:
        _train_epochs(run, split, show)
        if not run.accelerator.is_main_process:
            return
        folder = Store(store)
        manifest, weights, calibration = make_artifact(
            recipe,
            folder.next_version(recipe),
            run.published_net(),
            chosen,
            split,
            seed=seed,
            duration_s=run.seconds,
            command=f"exitramp train {recipe} --data {Path(data).name} --seed {seed}"
            + ("" if epochs is None else f" --epochs {epochs}"),
            report=show,
        )
    folder.publish(manifest, weights)
    _write_report(runs / recipe / "calibration.json", calibration.report)
    console.print(f"published {manifest.name}@{manifest.version}, policy {manifest.policy.id}")


def _train_epochs(run: Run, split: Split, show: OnProgress) -> None:
    """Train what is left of ``run``; now and then the accuracy of every exit."""
    from model_store.training.steps import exit_accuracies

    while not run.done:
        run.train_epoch(
            lambda p: show(
                f"epoch {p.epoch + 1}/{p.epochs}  loss {p.loss:.3f}  {p.images_per_s:.0f} images/s",
                p.epoch * p.steps + p.step,
                p.epochs * p.steps,
            )
        )
        if run.epoch % 5 == 0 and not run.done:
            shares = exit_accuracies(run.average.module, split.calibration, run.recipe)
            Console(stderr=True).print(f"epoch {run.epoch}: " + "  ".join(f"{share:.2%}" for share in shares))


def calibrate(
    model: ModelArgument,
    data: DataOption,
    store: StoreOption = EMBEDDED,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new exit policy for an artifact from held-out training rows; the weights stay."""
    with _training_extra():
        from model_store.training.data import load_split
        from model_store.training.publish import calibrate_net
        from service.cli.tables import show_calibration
    artifact = _load(store, model)
    manifest = artifact.manifest
    split = load_split(data)
    with _progress() as show:
        calibration, _ = calibrate_net(artifact.net, manifest.input, manifest.stages, split, show)
    Store(store).replace_manifest(with_policy(manifest, calibration.policy))
    if report is not None:
        _write_report(report, calibration.report)
    if as_json:
        show_json(calibration.report.model_dump(mode="json"))
    else:
        show_calibration(calibration.report)
        console.print(f"{manifest.name}@{manifest.version} now has policy {calibration.policy.id}")


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
    with _training_extra():
        from model_store.training.data import load, load_split
        from model_store.training.evaluate import evaluate as measure
        from model_store.training.plots import save_plot
        from service.cli.tables import show_evaluation
    from service.headers import parse_number
    from service.registry import make_executor

    artifact = _load(store, model)
    manifest = artifact.manifest
    rows = load(data, "test") if part == "test" else load_split(data).budget_check
    try:
        budgets = [parse_number(text) for text in budget or []]
    except ValueError as error:
        raise Failure(f"--budget: {error}") from error
    runner = make_executor(artifact, executor, threads=0)
    with _progress() as show:
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


def _load(store: Path, model: str) -> Artifact:
    name, _, version = model.partition("@")
    if version and not version.isdecimal():
        raise Failure(f"{model!r} is not name or name@version")
    return Store(store).load(name, int(version) if version else None)


def _direct(artifact: Artifact) -> list[float]:
    from model_store.flops import direct_flops

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


def _write_report(path: Path, report: CalibrationReport) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.model_dump_json(indent=1) + "\n")


@contextmanager
def _training_extra() -> Iterator[None]:
    """Say which extra is missing instead of showing an import error."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Failure(
            f"{error.name} is missing; install it with: pip install 'exitramp[training]'"
        ) from error


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A progress bar on standard error; call it with what, done, of how many."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=1)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
