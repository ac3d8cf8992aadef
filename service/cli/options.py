"""What the commands share: options, output, the error that is one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

console = Console()
"""Standard output."""

StoreOption = Annotated[Path, typer.Option("--store", help="Folder of artifacts.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DataOption = Annotated[
    str,
    typer.Option(help="Parquet folder, image folder (train/CLASS/*, test/CLASS/*), or torchvision:NAME:DIR."),
]


class Failure(Exception):
    """An error that the user can mend; its message is the one line to show."""


def show_json(value: Any) -> None:
    """Print ``value`` as indented JSON on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
