"""``exitramp bench``: loads and budgets over a running service."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from rich.box import SIMPLE
from rich.table import Table

from service.cli.options import Failure, JsonOption, console, extra, progress, show_json
from service.headers import parse_number

if TYPE_CHECKING:
    from loadtest.bench import Plan
    from loadtest.errors import LoadTestError
    from loadtest.report import Report

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

SHOWN = (*("load", "answered /s", "p50 ms", "p99 ms", "errors", "accuracy %", "charged M", "notes"),)
"""Columns of the report that fit into a terminal."""


def bench(
    url: Annotated[
        str, typer.Option(help="Of the service; a user and password in it are in no report.")
    ] = "http://127.0.0.1:8000",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled images: a Parquet file, a folder with test-*.parquet, test/CLASS/* or CLASS/*; "
            "default: synthetic ones, without accuracy.",
            exists=True,
        ),
    ] = None,
    budgets: Annotated[
        str, typer.Option(help="X-FLOP-Budget, comma-separated; none: without. Default: four of the curve.")
    ] = "",
    loads: Annotated[
        str, typer.Option(help="Offered loads, shares of each budget's capacity, comma-separated.")
    ] = "0.25,0.5,0.75,0.9,1.1",
    rates: Annotated[str, typer.Option(help="Offered loads, requests a second, instead.")] = "",
    duration: Annotated[float, typer.Option(min=0.1, help="Of each measurement, seconds.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0.1, help="Before each budget's first, seconds.")] = 2.0,
    pause: Annotated[float, typer.Option(min=0.0, help="Rest before each measurement, seconds.")] = 3.0,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Of the closed loop.")] = 32,
    model: Annotated[str, typer.Option(help="Task or model; default: the service's.")] = "",
    api_key: Annotated[str, typer.Option(help="X-API-Key; it is in no report.")] = "",
    seed: Annotated[int, typer.Option(help="Of arrivals and the order of images.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for report.md, report.json, report.png.")] = Path(
        "report"
    ),
    as_json: JsonOption = False,
) -> None:
    """Measure throughput, latency, errors, accuracy and FLOPs of a running service against load and budget.

    A closed loop gives each budget's capacity; open loops, requests at random times, the rest. What the
    generator itself costs is measured and reported too. Ctrl-C keeps what has been measured.
    """
    with extra("loadtest"):
        from loadtest.bench import Plan
    plan = Plan(
        budgets=tuple(_budgets(budgets)),
        loads=tuple(_numbers("--loads", loads)),
        rates=tuple(_numbers("--rates", rates)),
        duration_s=duration,
        warm_up_s=warm_up,
        pause_s=pause,
        connections=connections,
        model=model,
        seed=seed,
    )
    if not plan.loads and not plan.rates:
        raise Failure("neither --loads nor --rates names a load")
    if not url.startswith(("http://", "https://")):
        raise Failure(f"--url: {_without_password(url)} does not begin with http:// or https://")
    _check_writable(out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what has been measured is kept
    with extra("loadtest"):
        report, stopped = _measure(plan, url, data, api_key)
        if report.rows:
            show_json(report.to_json()) if as_json else _show(report)
            _write(report, out)
            sys.stderr.write(f"{len(report.rows)} measurements are in {out}/report.md, .json and .png\n")
    if isinstance(stopped, KeyboardInterrupt):
        sys.stderr.write("exitramp: interrupted\n")
        raise typer.Exit(INTERRUPTED)
    if stopped is not None:
        raise Failure(str(stopped)) from stopped


def _measure(
    plan: Plan, url: str, data: Path | None, api_key: str
) -> tuple[Report, LoadTestError | KeyboardInterrupt | None]:
    """What could be measured, and what ended it early."""
    from loadtest.bench import Bench
    from loadtest.errors import LoadTestError
    from loadtest.images import read_pictures, synthetic_pictures
    from loadtest.report import Report

    source = "synthetic, of several sizes" if data is None else data.name
    try:
        pictures = synthetic_pictures(plan.seed) if data is None else read_pictures(data)
    except LoadTestError as error:
        raise Failure(str(error)) from error
    labelled = sum(picture.label is not None for picture in pictures)
    images = {"source": source, "count": len(pictures), "labelled": labelled}
    shown = _without_password(url)
    report = Report(command=_command(url, api_key), url=shown, plan=asdict(plan), images=images)
    try:
        with progress() as show:
            uvloop.run(Bench(plan, report, url, pictures, api_key, show).run())
    except (LoadTestError, KeyboardInterrupt) as error:
        report.incomplete = str(error) or "interrupted"
        return report, error
    return report, None


def _budgets(text: str) -> list[str]:
    budgets = [part.strip() for part in text.split(",") if part.strip()]
    for budget in budgets:
        if budget != "none":
            try:
                parse_number(budget)
            except ValueError as error:
                raise Failure(f"--budgets: {error}") from error
    return budgets


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise Failure(f"{option}: {text!r} has to be numbers, separated by commas") from error
    if any(not 0 < number < float("inf") for number in numbers):
        raise Failure(f"{option}: {text!r} has to be positive numbers")
    return numbers


def _without_password(url: str) -> str:
    """``url`` without ``user:password@``."""
    return re.sub(r"((?<=//)|^)[^/?#]*@", "", url)


def _command(url: str, api_key: str) -> str:
    """What was typed, without the key and the URL's password."""
    typed = ["exitramp", *(part.replace(url, _without_password(url)) for part in sys.argv[1:])]
    return shlex.join(part.replace(api_key, "KEY") if api_key else part for part in typed)


def _check_writable(out: Path) -> None:
    """Find out now, not after minutes, that the report cannot be written."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise Failure(f"--out: {there} is no folder that can be written to")


def _write(report: Report, out: Path) -> None:
    from loadtest.bench_plot import draw
    from loadtest.markdown import to_markdown

    try:
        out.mkdir(parents=True, exist_ok=True)
        draw(report, out / "report.png")
        (out / "report.json").write_text(json.dumps(report.to_json(), indent=1) + "\n")
        (out / "report.md").write_text(to_markdown(report, "report.png"))
    except OSError as error:
        raise Failure(f"--out: {error}") from error


def _show(report: Report) -> None:
    """Print what matters most of each line."""
    from loadtest.markdown import COLUMNS, row_cells

    shown = [COLUMNS.index(name) for name in SHOWN]
    for budget in report.budgets():
        table = Table(title=f"budget {budget}", box=SIMPLE, pad_edge=False, collapse_padding=True)
        for column in SHOWN:
            table.add_column(column, justify="right")
        for row in (row for row in report.rows if row.budget == budget):
            cells = row_cells(row)
            table.add_row(*(cells[number] for number in shown))
        console.print(table)
