"""``exitramp quantize``: an int8 graph beside an artifact's weights, and what it costs in accuracy."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from model_store.quantized import Int8Record, write_int8
from model_store.store import EMBEDDED
from service.cli.options import (
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


def quantize(
    model: ModelArgument,
    data: DataOption,
    store: StoreOption = EMBEDDED,
    rows: Annotated[int, typer.Option(min=1, help="Held-out rows that the ranges are taken from.")] = 300,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="NNCF's preset mixed: ranges of features need not be even about 0."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the int8 graph that EXITRAMP_PRECISION=int8 serves, and compare it with float32 exit by exit.

    Ranges come from the calibration half of the held-out rows, accuracies from the budget-check half.
    """
    with extra("quantization"):
        from model_store.training.data import load_split
        from service.engine.quantization import make_int8

        artifact = load_artifact(store, model)
        split = load_split(data)
    manifest = artifact.manifest
    if len(split.calibration.classes) != len(manifest.classes):
        classes = len(split.calibration.classes)
        raise Failure(f"{data}: {classes} classes, but {manifest.name} knows {len(manifest.classes)}")
    if rows > len(split.calibration):
        raise Failure(f"--rows {rows}: there are {len(split.calibration)} rows for calibration")
    with progress() as show:
        int8 = make_int8(artifact, split.calibration.slice(0, rows), split.budget_check, mixed, show)
    write_int8(artifact.folder, int8)
    if as_json:
        show_json(int8.record.model_dump(mode="json"))
    else:
        _show(f"{manifest.name}@{manifest.version}", int8.record)


def _show(name: str, record: Int8Record) -> None:
    table = Table(title=f"{name}, {record.count} rows of {record.judged}")
    for column in ("exit", "float32", "int8", "difference, points", "same label"):
        table.add_column(column, justify="right")
    for row in record.exits:
        gain = f"{row.gain * 100:+.2f} ± {row.standard_error * 100:.2f}"
        accuracies = (f"{row.float32_accuracy:.2%}", f"{row.int8_accuracy:.2%}")
        table.add_row(str(row.exit), *accuracies, gain, f"{row.agreement:.2%}")
    console.print(table)
