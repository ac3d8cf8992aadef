"""What the commands share: options, output, the error that is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model_store.store import Artifact, Store

console = Console()
"""Standard output."""

StoreOption = Annotated[Path, typer.Option("--store", help="Folder of artifacts.")]
ModelArgument = Annotated[str, typer.Argument(help="Artifact, name or name@version.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DataOption = Annotated[
    str,
    typer.Option(help="Parquet folder, image folder (train/CLASS/*, test/CLASS/*), or torchvision:NAME:DIR."),
]


CompileOption = Annotated[bool, typer.Option("--compile/--no-compile", help="Use torch.compile.")]

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


class Failure(Exception):
    """An error that the user can mend; its message is the one line to show."""


def show_json(value: Any) -> None:
    """Print ``value`` as indented JSON on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def load_artifact(store: Path, model: str) -> Artifact:
    """Load ``model``, name or name@version.

    Raises:
        Failure: It is neither.
        StoreError: It is missing or broken.
    """
    name, _, version = model.partition("@")
    if version and not version.isdecimal():
        raise Failure(f"{model!r} is not name or name@version")
    return Store(store).load(name, int(version) if version else None)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Say which extra is missing, ``name``, instead of showing an import error."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Failure(f"{error.name} is missing; install it with: pip install 'exitramp[{name}]'") from error


@contextmanager
def progress() -> Iterator[OnProgress]:
    """A progress bar on standard error; call it with what, done, of how many."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(
            "", total=1, visible=False
        )  # until there is progress: what fails before shows none
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total, visible=True
        )
