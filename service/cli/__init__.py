"""The command line: ``exitramp COMMAND``."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any

import typer

from model_store.policy import UnaffordableError
from model_store.store import StoreError
from model_store.training.data import DataError
from service.cli import (
    benching,
    comparing,
    evaluation,
    frontier,
    importing,
    latency,
    planning,
    profiling,
    pruning,
    quantizing,
    scheduling,
    serving,
    training,
)
from service.cli.options import Failure

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of a file system that takes no more."""

app = typer.Typer(
    name="exitramp",
    help="Image classification that spends only the compute it is allowed. One FLOP is one multiply-add.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    serving.serve,
    serving.models,
    training.train,
    training.means,
    training.calibrate,
    evaluation.evaluate,
    pruning.prune,
    quantizing.quantize,
    comparing.compare,
    latency.latency,
    frontier.frontier,
    benching.bench,
    planning.plan,
    profiling.profile,
    scheduling.schedule,
):
    app.command()(command)
app.command("import")(importing.import_model)


def main(run: Callable[[], Any] = app) -> None:
    """Run the command line; a known failure is one line on standard error and exit code 1."""
    try:
        run()
    except (Failure, StoreError, DataError, UnaffordableError) as error:
        sys.stderr.write(f"exitramp: {error}\n")
        sys.exit(1)
    except OSError as error:
        if error.errno not in FULL:
            raise
        sys.stderr.write(f"exitramp: {error.filename or 'writing'}: {error.strerror}\n")
        sys.exit(1)
