"""``exitramp compare``: networks trained to one FLOP limit, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import DataOption, Failure, JsonOption, extra, progress, show_json
from service.headers import parse_number

if TYPE_CHECKING:
    from model_store.training.limited import LimitedRun, Setting
    from model_store.zoo import Entry


def compare(
    data: DataOption,
    flop_limit: Annotated[str, typer.Option(help="Training FLOPs of each run, e.g. 1e14 or 5T.")] = "5e12",
    network: Annotated[
        list[str] | None, typer.Option(help="Of the zoo; repeatable. Default: the nine of the paper.")
    ] = None,
    optimizer: Annotated[list[str], typer.Option(help="adam or sgd; repeatable.")] = ["adam"],  # noqa: B006
    rate: Annotated[list[float], typer.Option(help="Learning rate; repeatable.")] = [1e-3],  # noqa: B006
    batch_size: Annotated[list[int], typer.Option(min=1, help="Images a step; repeatable.")] = [64],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Of initialisation, order and augmentation.")] = 0,
    runs: Annotated[Path, typer.Option(help="Folder of results; finished runs are not repeated.")] = Path(
        "runs"
    ),
    plot: Annotated[Path | None, typer.Option(help="Write accuracy against FLOPs spent there, PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train networks until a FLOP limit is spent, forward and backward counted, and compare what they learnt.

    Of each network the setting that is best on the held-out rows counts; its best state is judged on the test
    rows.
    """
    with extra("training"):
        from model_store.training.limited import NETWORKS, grid
        from service.cli.limited_table import show_limited
    try:
        limit = parse_number(flop_limit)
    except ValueError as error:
        raise Failure(f"--flop-limit: {error}") from error
    if unknown := set(optimizer) - {"adam", "sgd"}:
        raise Failure(f"--optimizer {', '.join(sorted(unknown))}: adam or sgd")
    settings = grid(tuple(optimizer), tuple(rate), tuple(batch_size))  # type: ignore[arg-type]  # checked above
    results = _train_all(_entries(network or list(NETWORKS)), settings, limit, data, seed, runs)
    if plot is not None:
        from model_store.training.limited_plot import save_limited

        save_limited(results, plot)
    if as_json:
        show_json([result.model_dump(mode="json") for result in results])
    else:
        show_limited(results)


def _entries(names: list[str]) -> list[Entry]:
    from model_store.zoo import zoo

    unknown = set(names) - set(zoo())
    if unknown:
        raise Failure(f"not in the zoo: {', '.join(sorted(unknown))}; exitramp models --zoo lists it")
    return [zoo()[name] for name in names]


def _train_all(
    entries: list[Entry], settings: tuple[Setting, ...], limit: float, data: str, seed: int, runs: Path
) -> list[LimitedRun]:
    """Every network with every setting; each result is kept in a file of its own."""
    from model_store.training.data import load, load_split
    from model_store.training.limited import LimitedRun, train_limited
    from model_store.training.recipe import plain_recipe

    split, test = load_split(data), load(data, "test")
    source = "".join(letter if letter.isalnum() else "-" for letter in split.train.source)
    folder = runs / f"compare-{source}-{limit:.0f}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    results, total = [], len(entries) * len(settings)
    with progress() as show:
        for number, (entry, setting) in enumerate((e, s) for e in entries for s in settings):
            place = folder / f"{entry.name}-{setting}.json"
            if not place.exists():
                try:
                    result = train_limited(
                        entry,
                        setting,
                        limit,
                        split.train,
                        split.held_out,
                        test,
                        plain_recipe(split.train),
                        seed=seed,
                        report=lambda spent, accuracy, n=number, e=entry: show(  # type: ignore[misc]
                            f"{e.name}: {accuracy:.1%}", round((n + spent / limit) * 1000), total * 1000
                        ),
                    )
                except ValueError as error:
                    raise Failure(str(error)) from error
                partial = place.with_suffix(".partial")
                partial.write_text(result.model_dump_json(indent=1) + "\n")
                partial.replace(place)
            results.append(LimitedRun.model_validate_json(place.read_text()))
    return results
