"""``exitramp train``, ``means`` and ``calibrate``: progress on standard error, results on output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from model_store.store import EMBEDDED, Store, with_policy
from service.cli.options import (
    CompileOption,
    DataOption,
    Failure,
    JsonOption,
    ModelArgument,
    StoreOption,
    console,
    extra,
    load_artifact,
    progress,
    show_json,
)
from service.cli.recipes import named_recipe, start_of, teacher_of
from service.cli.runs import already_published, print_accuracies, publish_run, train_epochs, write_report

if TYPE_CHECKING:
    from model_store.nets.staged import StagedNet
    from model_store.training.data import Rows
    from model_store.training.recipe import Recipe
    from model_store.training.train import Run

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
    with extra("training"):
        from model_store.training.data import load_split
    chosen = named_recipe(recipe, epochs)
    if already_published(runs / recipe):
        return
    split = load_split(data)
    run = _prepare(chosen, split.train, runs, recipe, store, seed=seed, compile_net=compile_net)
    command = f"exitramp train {recipe} --data {Path(data).name} --seed {seed}"
    command += "" if epochs is None else f" --epochs {epochs}"
    with progress() as show:
        train_epochs(run, split, show, minutes)
        if not (run.done and run.accelerator.is_main_process):
            return
        if not publish:
            print_accuracies(run, run.averaged_net(), split.held_out)
            return
        publish_run(run, split, chosen.artifact or recipe, store, command, show)


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
            teacher=teacher_of(recipe, store, runs),
        )
    except ValueError as error:
        raise Failure(str(error)) from error


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
    with extra("training"):
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
            teacher = teacher_of(base, EMBEDDED, runs)
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
    with extra("training"):
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
        write_report(report, calibration.report)
    if as_json:
        show_json(calibration.report.model_dump(mode="json"))
    else:
        show_calibration(calibration.report)
        console.print(f"{manifest.name}@{manifest.version} now has policy {calibration.policy.id}")
