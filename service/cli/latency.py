"""``exitramp latency``: networks of the zoo or artifacts against each other on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from model_store.store import EMBEDDED, Store
from service.cli.options import Failure, JsonOption, StoreOption, console, load_artifact, progress, show_json

if TYPE_CHECKING:
    from pathlib import Path

    from model_store.nets.staged import StagedNet


def latency(
    networks: Annotated[list[str], typer.Argument(help="Names of the zoo (random weights) or artifacts.")],
    batch: Annotated[int, typer.Option(min=1, help="Images a run.")] = 1,
    rounds: Annotated[int, typer.Option(min=2, help="Runs of each, in turns.")] = 30,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
    store: StoreOption = EMBEDDED,
    as_json: JsonOption = False,
) -> None:
    """Time networks in turns, batch by batch, operator by operator in torch and float32.

    The last column is each median over that of the last network named. What is served runs compiled and is
    several times faster.
    """
    import torch

    from model_store.latency import measure_latencies

    torch.set_num_threads(threads)
    nets = {name: _network(name, store) for name in networks}
    with progress() as show:
        results = measure_latencies(nets, batch, rounds, lambda done: show("rounds", done, rounds))
    if as_json:
        show_json([asdict(result) for result in results])
        return
    title = f"torch {torch.__version__}, eager, float32, {threads} threads, batch {batch}, {rounds} rounds"
    table = Table(title=title)
    table.add_column("network", no_wrap=True)
    for column in ("median, ms", "first to ninth decile, ms", "over the last"):
        table.add_column(column, justify="right")
    for result in results:
        deciles = f"{result.low_s * 1e3:.2f} to {result.high_s * 1e3:.2f}"
        ratio = f"{result.median_s / results[-1].median_s:.2f}"
        table.add_row(result.name, f"{result.median_s * 1e3:.2f}", deciles, ratio)
    console.print(table)


def _network(name: str, store: Path) -> tuple[StagedNet, int]:
    """A network in evaluation mode, and the side of its images."""
    from model_store.zoo import zoo

    if name.partition("@")[0] in Store(store).versions():
        artifact = load_artifact(store, name)
        return artifact.net, artifact.manifest.input.height
    if name not in zoo():
        raise Failure(f"{name!r} is neither an artifact nor in the zoo; exitramp models --zoo lists it")
    entry = zoo()[name]
    return entry.build(entry.side).eval(), entry.side
