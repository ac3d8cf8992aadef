"""``exitramp train``, ``means`` and ``calibrate``: progress on standard error, results on output."""

from __future__ import annotations

import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from model_store.store import EMBEDDED, Store, with_policy
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
from service.cli.recipes import named_recipe, start_of, teacher_of

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
        from model_store.training.publish import make_artifact, provenance
    chosen = named_recipe(recipe, epochs)
    published = runs / recipe / "published"
    if published.exists():
        console.print(f"already published as {published.read_text()}")
        return
    artifact = chosen.artifact or recipe
    split = load_split(data)
    run = _prepare(chosen, split.train, runs, recipe, store, seed=seed, compile_net=compile_net)
    with progress() as show:
        _train_epochs(run, split, show, minutes)
        if not (run.done and run.accelerator.is_main_process):
            return
        net = run.averaged_net()
        if not publish:
            _print_accuracies(run, net, split.held_out)
            return
        folder = Store(store)
        command = f"exitramp train {recipe} --data {Path(data).name} --seed {seed}"
        command += "" if epochs is None else f" --epochs {epochs}"
        manifest, weights, calibration = make_artifact(
            artifact,
            folder.next_version(artifact),
            net.cpu(),
            chosen,
            split,
            provenance(run, split, command),
            report=show,
        )
    folder.publish(manifest, weights)
    _write_report(runs / recipe / "calibration.json", calibration.report)
    published.write_text(f"{manifest.name}@{manifest.version}")
    console.print(f"published {manifest.name}@{manifest.version}, policy {manifest.policy.id}")


def _prepare(
    recipe: Recipe, rows: Rows, runs: Path, name: str, store: Path, *, seed: int, compile_net: bool
) -> Run:
    """The run of ``recipe``, with the artifact it starts from and its teacher."""
    from model_store.training.train import Run

    try:
        return Run(
            recipe,
            rows,
            runs / name,
            seed=seed,
            compile_net=compile_net,
            start=start_of(recipe, store, runs),
            teacher=teacher_of(recipe, runs),
        )
    except ValueError as error:
        raise Failure(str(error)) from error


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
            _print_accuracies(run, run.averaged_net(), split.calibration)


def _print_accuracies(run: Run, net: StagedNet, rows: Rows) -> None:
    """A line on standard error: what every exit of the averaged network ``net`` gets right."""
    from model_store.training.scores import EagerRunner, collect_path

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
    base, split = named_recipe(recipe), load_split(data)
    some = split.train.slice(0, rows)
    names, teacher = _feasible(base, some, epochs, only, runs)
    with progress() as show:
        results = compare_means(
            base,
            some,
            split.held_out,
            runs / f"means-{recipe}-{rows}x{epochs}-{seed}",
            epochs,
            names,
            seed=seed,
            compile_net=compile_net,
            teacher=teacher,
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


def _feasible(
    base: Recipe, rows: Rows, epochs: int, only: list[str] | None, runs: Path
) -> tuple[tuple[str, ...], StagedNet | None]:
    """The means to compare and their teacher; unasked, those about a teacher need its finished run."""
    from model_store.training.means import MEANS, needs_teacher, recipe_of
    from model_store.training.start import check_fit

    names, teacher = tuple(only or MEANS), None
    try:
        if any(map(needs_teacher, names)):
            teacher = teacher_of(base, runs)
    except ValueError as error:
        if only:
            raise Failure(str(error)) from error
        Console(stderr=True).print(f"without what needs a teacher: {error}")
    if teacher is None and not only:
        names = tuple(name for name in names if not needs_teacher(name))
    try:
        for name in names:
            check_fit(recipe_of(name, base, epochs), rows, 1, None, teacher if needs_teacher(name) else None)
    except ValueError as error:
        raise Failure(str(error)) from error
    return names, teacher


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
        calibration, _ = calibrate_net(
            artifact.net, manifest.input, manifest.stages, split.calibration, split.budget_check, show
        )
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
