"""``exitramp prune``: an artifact with fewer channels or weights, fine-tuned and published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_store.flops import dense_flops
from model_store.store import EMBEDDED
from service.cli.options import (
    CompileOption,
    DataOption,
    Failure,
    ModelArgument,
    StoreOption,
    console,
    extra,
    load_artifact,
    progress,
)
from service.cli.recipes import teacher_of
from service.cli.runs import already_published, publish_run, train_epochs

if TYPE_CHECKING:
    from model_store.nets.staged import StagedNet
    from model_store.store import Artifact


def prune(
    model: ModelArgument,
    data: DataOption,
    share: Annotated[
        float,
        typer.Option(
            help="Of parameters and FLOPs to remove, at least; of the convolutions' weights if "
            "--unstructured. 0: only fine-tune, to compare."
        ),
    ] = 0.27,
    unstructured: Annotated[
        bool, typer.Option("--unstructured", help="Set single weights to 0 instead of removing channels.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Of fine-tuning.")] = 3,
    teacher: Annotated[
        str | None, typer.Option(help="Recipe whose finished run teaches, asked once about every image.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Default: MODEL-pruned, MODEL-sparse, or MODEL-tuned for 0.")
    ] = None,
    store: StoreOption = EMBEDDED,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints; a run is resumed from there.")] = Path(
        "runs"
    ),
    seed: Annotated[int, typer.Option(help="Of order and augmentation.")] = 0,
    compile_net: CompileOption = True,
) -> None:
    """Prune an artifact by L1 norm, fine-tune it, calibrate it and publish it.

    Without whole channels a network is smaller and faster. Without single weights it is only sparse: dense
    kernels take as long as before, and FLOPs count as before.
    """
    with extra("training"):
        from model_store.training.data import load_split
        from model_store.training.pruning import fine_tuning
        from model_store.training.train import Run
    artifact = load_artifact(store, model)
    manifest = artifact.manifest
    wanted = name or f"{manifest.name}-{_suffix(share, unstructured)}"
    folder = runs / f"{wanted}-{share:g}"
    if already_published(folder):
        return
    try:
        pruned, arguments = _pruned(artifact, share, unstructured)
        recipe = fine_tuning(manifest, arguments, epochs, keep_zeros=unstructured, teacher=teacher)
        taught_by = teacher_of(recipe, store, runs)
        split = load_split(data)  # last: it takes longest
        run = Run(
            recipe,
            split.train,
            folder,
            seed=seed,
            compile_net=compile_net,
            start=pruned,
            teacher=taught_by,
        )
    except ValueError as error:
        raise Failure(str(error)) from error
    _show_sizes(artifact.net, pruned, manifest.input.height)
    command = f"exitramp prune {manifest.name}@{manifest.version} --data {Path(data).name} --share {share:g}"
    command += " --unstructured" if unstructured else ""
    command += f" --teacher {teacher}" if teacher else ""
    command += f" --name {name}" if name else ""
    with progress() as show:
        train_epochs(run, split, show, None)
        if not run.accelerator.is_main_process:
            return
        publish_run(run, split, wanted, store, f"{command} --epochs {epochs} --seed {seed}", show)


def _suffix(share: float, unstructured: bool) -> str:
    if share == 0:
        return "tuned"
    return "sparse" if unstructured else "pruned"


def _pruned(artifact: Artifact, share: float, unstructured: bool) -> tuple[StagedNet, dict[str, Any]]:
    """The network of ``artifact`` without the ``share``, and the arguments that build it.

    Raises:
        ValueError: The network or the share does not allow it.
    """
    from model_store.training.pruning import prune_channels, prune_weights

    manifest = artifact.manifest
    if share == 0:
        return artifact.net, dict(manifest.arguments)
    if unstructured:
        return prune_weights(artifact.net, share), dict(manifest.arguments)
    return prune_channels(artifact.net, manifest.arguments, manifest.input.height, share)


def _show_sizes(whole: StagedNet, pruned: StagedNet, side: int) -> None:
    """Print what pruning leaves."""
    from model_store.flops import count_stages
    from model_store.training.pruning import parameters, sparsity

    counts = [(parameters(net), dense_flops(count_stages(net, side, side))[-1]) for net in (whole, pruned)]
    (before, flops_before), (after, flops_after) = counts
    console.print(
        f"parameters {before:,} to {after:,} ({after / before - 1:+.1%}), "
        f"FLOPs {flops_before:,} to {flops_after:,} ({flops_after / flops_before - 1:+.1%}), "
        f"zeros among the convolutions' weights {sparsity(pruned):.1%}"
    )
