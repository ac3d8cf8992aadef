"""``exitramp prune``: an artifact with fewer channels or weights, fine-tuned and published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    load_artifact,
    progress,
    training_extra,
)
from service.cli.runs import already_published, publish_run, train_epochs

if TYPE_CHECKING:
    from model_store.nets.staged import StagedNet


def prune(
    model: ModelArgument,
    data: DataOption,
    share: Annotated[
        float,
        typer.Option(help="Of the parameters to remove; of the convolutions' weights if --unstructured."),
    ] = 0.27,
    unstructured: Annotated[
        bool, typer.Option("--unstructured", help="Set single weights to 0 instead of removing channels.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Of fine-tuning.")] = 3,
    name: Annotated[str | None, typer.Option(help="Default: MODEL-pruned or MODEL-sparse.")] = None,
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
    with training_extra():
        from model_store.training.data import load_split
        from model_store.training.pruning import fine_tuning, prune_channels, prune_weights
        from model_store.training.train import Run
    artifact = load_artifact(store, model)
    manifest = artifact.manifest
    wanted = name or f"{manifest.name}-{'sparse' if unstructured else 'pruned'}"
    folder = runs / f"{wanted}-{share:g}"
    if already_published(folder):
        return
    split = load_split(data)
    try:
        if unstructured:
            pruned, arguments = prune_weights(artifact.net, share), dict(manifest.arguments)
        else:
            pruned, arguments = prune_channels(artifact.net, manifest.arguments, manifest.input.height, share)
        recipe = fine_tuning(manifest, arguments, epochs, keep_zeros=unstructured)
        run = Run(recipe, split.train, folder, seed=seed, compile_net=compile_net, start=pruned)
    except ValueError as error:
        raise Failure(str(error)) from error
    _show_sizes(artifact.net, pruned, manifest.input.height)
    kind = " --unstructured" if unstructured else ""
    command = (
        f"exitramp prune {manifest.name}@{manifest.version} --data {Path(data).name} --share {share:g}{kind}"
    )
    with progress() as show:
        train_epochs(run, split, show, None)
        if not run.accelerator.is_main_process:
            return
        publish_run(run, split, wanted, store, f"{command} --epochs {epochs} --seed {seed}", show)


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
