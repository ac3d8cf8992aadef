"""``exitramp train``, ``means`` and ``calibrate``: progress on standard error, results on output."""

from __future__ import annotations

import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from model_store.store import EMBEDDED, ArtifactNotFound, Store, with_policy
from service.cli.options import (
    DataOption,
    Failure,
    JsonOption,
    ModelArgument,
    OnProgress,
    StoreOption,
    console,
    load_artifact,
    progress,
    show_json,
    training_extra,
)

if TYPE_CHECKING:
    from model_store.nets.staged import StagedNet
    from model_store.training.data import Rows, Split
    from model_store.training.recipes import Recipe
    from model_store.training.report import CalibrationReport
    from model_store.training.train import Run

CompileOption = Annotated[bool, typer.Option("--compile/--no-compile", help="Use torch.compile.")]
ReportOption = Annotated[Path | None, typer.Option(help="Write the account of the calibration there, JSON.")]


def train(
    recipe: Annotated[str, typer.Argument(help="Recipe; most are named like the artifact they make.")],
    data: DataOption,
    store: StoreOption = EMBEDDED,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints; a run is resumed from there.")] = Path(
        "runs"
    ),
    seed: Annotated[int, typer.Option(help="Of initialisation, order and augmentation.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    compile_net: CompileOption = True,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after the epoch in which they are over; the same command goes on."),
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish/--no-publish", help="Make an artifact of it; a teacher needs none.")
    ] = True,
) -> None:
    """Train a recipe, calibrate the result and publish it as the artifact's next version.

    Interrupted with Ctrl-C, it goes on from the last whole epoch when the same command is given again.
    """
    with training_extra():
        from model_store.training.data import load_split
        from model_store.training.publish import make_artifact
    chosen = _recipe(recipe, epochs)
    published = runs / recipe / "published"
    if published.exists():
        console.print(f"already published as {published.read_text()}")
        return
    artifact = chosen.artifact or recipe
    split = load_split(data)
    run = _prepare(chosen, split.train, runs, recipe, store, seed=seed, compile_net=compile_net)
    with progress() as show:
        _train_epochs(run, split, show, minutes)
        if not (run.done and publish and run.accelerator.is_main_process):
            return
        folder = Store(store)
        manifest, weights, calibration = make_artifact(
            artifact,
            folder.next_version(artifact),
            run.averaged_net().cpu(),
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
    published.write_text(f"{manifest.name}@{manifest.version}")
    console.print(f"published {manifest.name}@{manifest.version}, policy {manifest.policy.id}")


def _recipe(name: str, epochs: int | None) -> Recipe:
    """The recipe called ``name``, perhaps at another length."""
    from model_store.training.recipes import RECIPES

    if name not in RECIPES:
        raise Failure(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    try:
        return RECIPES[name] if epochs is None else RECIPES[name].changed(epochs=epochs)
    except ValueError as error:
        raise Failure(f"--epochs {epochs}: {error}") from error


def _prepare(
    recipe: Recipe, rows: Rows, runs: Path, name: str, store: Path, *, seed: int, compile_net: bool
) -> Run:
    """The run of ``recipe``, with the artifact it starts from and its teacher."""
    from model_store.training.checkpoint import load_average
    from model_store.training.train import Run

    start = None if recipe.start is None else _start(store, recipe.start)
    try:
        teacher = None
        if recipe.teacher is not None:
            teacher = load_average(_recipe(recipe.teacher, None), runs / recipe.teacher)
        return Run(
            recipe, rows, runs / name, seed=seed, compile_net=compile_net, start=start, teacher=teacher
        )
    except ValueError as error:
        raise Failure(str(error)) from error


def _start(store: Path, model: str) -> StagedNet:
    """The network of ``model`` in ``store`` or, if it has none, among the embedded ones."""
    try:
        return load_artifact(store, model).net
    except ArtifactNotFound:
        return load_artifact(EMBEDDED, model).net


def _train_epochs(run: Run, split: Split, show: OnProgress, minutes: float | None) -> None:
    """Train what is left of ``run``, or for some minutes; now and then the accuracy of every exit."""
    from accelerate.utils import broadcast_object_list

    stop_s = inf if minutes is None else time.monotonic() + 60 * minutes
    # All processes do what the main one decides: their clocks differ.
    while not run.done and not broadcast_object_list([time.monotonic() >= stop_s])[0]:
        run.train_epoch(
            lambda p: show(
                f"epoch {p.epoch + 1}/{p.epochs}  loss {p.loss:.3f}  {p.images_per_s:.0f} images/s",
                p.epoch * p.steps + p.step,
                p.epochs * p.steps,
            )
        )
        if run.epoch % 5 == 0 and not run.done and run.accelerator.is_main_process:
            _print_accuracies(run, split.calibration)


def _print_accuracies(run: Run, rows: Rows) -> None:
    """A line on standard error: what every exit of the averaged network gets right."""
    from model_store.training.scores import EagerRunner, collect_path

    net = run.averaged_net()
    scores = collect_path(EagerRunner(net, run.recipe.mean, run.recipe.std), range(net.stages), rows)
    shares = "  ".join(f"{share:.2%}" for share in scores.correct.mean(axis=1))
    Console(stderr=True).print(f"epoch {run.epoch}, {run.seconds:.0f} s: {shares}")


def means(
    recipe: Annotated[str, typer.Argument(help="Recipe that gives network and task.")],
    data: DataOption,
    rows: Annotated[int, typer.Option(help="Training rows to use.")] = 10_000,
    epochs: Annotated[int, typer.Option(help="Passes over them.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Some of the means, in order; repeatable.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints.")] = Path("runs"),
    seed: Annotated[int, typer.Option(help="The same for all.")] = 0,
    compile_net: CompileOption = True,
    as_json: JsonOption = False,
) -> None:
    """Measure what each means of training gains: short runs of equal length, judged on the held-out rows."""
    with training_extra():
        from model_store.training.data import load_split
        from model_store.training.means import MEANS, compare_means
        from service.cli.tables import show_means
    unknown = set(only or ()) - set(MEANS)
    if unknown:
        raise Failure(f"unknown means: {', '.join(sorted(unknown))}; known: {'; '.join(MEANS)}")
    split = load_split(data)
    folder = runs / f"means-{recipe}-{rows}x{epochs}-{seed}"
    with progress() as show:
        results = compare_means(
            _recipe(recipe, None),
            split.train.slice(0, rows),
            split.held_out,
            folder,
            epochs,
            tuple(only or MEANS),
            seed=seed,
            compile_net=compile_net,
            report=lambda name, p: show(
                f"{name}: loss {p.loss:.3f}  {p.images_per_s:.0f} images/s",
                p.epoch * p.steps + p.step,
                p.epochs * p.steps,
            ),
        )
    if as_json:
        show_json([result.model_dump(mode="json") for result in results])
    else:
        show_means(results)


def calibrate(
    model: ModelArgument,
    data: DataOption,
    store: StoreOption = EMBEDDED,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new exit policy for an artifact from held-out training rows; the weights stay."""
    with training_extra():
        from model_store.training.data import load_split
        from model_store.training.publish import calibrate_net
        from service.cli.tables import show_calibration
    artifact = load_artifact(store, model)
    manifest = artifact.manifest
    split = load_split(data)
    with progress() as show:
        calibration, _ = calibrate_net(artifact.net, manifest.input, manifest.stages, split, show)
    Store(store).replace_manifest(with_policy(manifest, calibration.policy))
    if report is not None:
        _write_report(report, calibration.report)
    if as_json:
        show_json(calibration.report.model_dump(mode="json"))
    else:
        show_calibration(calibration.report)
        console.print(f"{manifest.name}@{manifest.version} now has policy {calibration.policy.id}")


def _write_report(path: Path, report: CalibrationReport) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.model_dump_json(indent=1) + "\n")
