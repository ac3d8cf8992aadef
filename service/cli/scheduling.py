"""``exitramp schedule``: ways to schedule, held against each other in virtual time."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from model_store.policy import make_plan
from model_store.store import EMBEDDED, Artifact
from service.cli.options import (
    DataOption,
    Failure,
    ModelArgument,
    StoreOption,
    extra,
    load_artifact,
    progress,
)

if TYPE_CHECKING:
    from service.simulation.known import KnownImages
    from service.simulation.measured import Measured
    from service.simulation.traffic import Arrival


def schedule(
    model: ModelArgument,
    data: DataOption,
    trace: Annotated[
        Path, typer.Option(help="Requests, from loadtest.trace with the held-out rows.", exists=True)
    ],
    times: Annotated[Path, typer.Option(help="Launch times and costs, from plan --times.", exists=True)],
    store: StoreOption = EMBEDDED,
    repetitions: Annotated[int, typer.Option(min=1, help="Of each line, in another order.")] = 3,
    known: Annotated[
        Path | None, typer.Option(help="Keep what the model says of the held-out rows there, .npz.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for schedule.md, .json and .png.")] = Path("report"),
) -> None:
    """Compare orders of spans, waits, merging and batch sizes by living through a trace in virtual time.

    Queues, scheduler, exit rule and accounts are those of the service; launches take as long as measured.
    Images are the held-out rows.
    """
    with extra("training"):
        import matplotlib  # noqa: F401
    import torch

    from service.simulation.measured import Measured
    from service.simulation.sweep import sweep
    from service.simulation.sweep_report import draw, to_markdown
    from service.simulation.traffic import read_trace

    artifact = load_artifact(store, model)
    try:
        measured = Measured.model_validate_json(times.read_bytes())
        arrivals = read_trace(trace)
    except (OSError, ValidationError, ValueError) as error:
        raise Failure(f"--times or --trace cannot be read: {error}") from error
    key = f"{artifact.manifest.name}@{artifact.manifest.version}"
    if measured.times.model != key:
        raise Failure(f"--times: {times} is of {measured.times.model}, not of {key}")
    with progress() as show:
        images = _known(artifact, data, known)
        if max(arrival.row for arrival in arrivals) >= len(images):
            raise Failure(f"--trace: {trace} asks for more rows than the {len(images)} held-out ones")
        _check_spans(artifact, arrivals, measured)
        torch.set_num_threads(1)  # what is computed from here on is tiny
        result = sweep(
            artifact.manifest,
            images,
            measured,
            arrivals,
            repetitions=repetitions,
            report=lambda done, total: show("simulating", done, total),
        )
    out.mkdir(parents=True, exist_ok=True)
    draw(result, out / "schedule.png")
    (out / "schedule.json").write_text(result.model_dump_json(indent=1) + "\n")
    command = shlex.join(["exitramp", *sys.argv[1:]])
    (out / "schedule.md").write_text(to_markdown(result, command, "schedule.png"))
    sys.stderr.write(f"{len(result.rows)} lines are in {out}/schedule.md, .json and .png\n")


def _check_spans(artifact: Artifact, arrivals: Sequence[Arrival], measured: Measured) -> None:
    """Find out now, not after minutes, that the launch times of a span are missing."""
    manifest = artifact.manifest
    asked = {(arrival.budget, arrival.limit) for arrival in arrivals}
    plans = [make_plan(manifest.policy, manifest.stages, *one) for one in asked]
    missing = {str(span) for plan in plans for span in plan.spans()} - set(measured.times.spans)
    if missing:
        raise Failure(f"--times lacks the stages {', '.join(sorted(missing))} of the trace")


def _known(artifact: Artifact, data: str, kept: Path | None) -> KnownImages:
    """From the file, or computed, and then kept there."""
    from model_store.training.data import load_split
    from model_store.training.scores import BATCH
    from service.engine.loaded import LoadedModel
    from service.loading import make_executor
    from service.simulation.known import KnownImages

    model = LoadedModel(artifact.manifest, make_executor(artifact, "auto", BATCH))
    if kept is not None and kept.exists():
        try:
            found = KnownImages.read(kept)
        except (OSError, ValueError, KeyError) as error:
            raise Failure(f"--known: {kept} holds no logits") from error
        if found.model != model.key:
            raise Failure(f"--known: {kept} is of {found.model}, not of {model.key}")
        return found
    found = KnownImages.of(model, load_split(data).held_out)
    if kept is not None:
        found.write(kept)
    return found
