"""A run from its first epoch to the published artifact: what ``train`` and ``prune`` share."""

from __future__ import annotations

import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from model_store.store import Store
from service.cli.options import OnProgress, console

if TYPE_CHECKING:
    from model_store.nets.staged import StagedNet
    from model_store.training.data import Rows, Split
    from model_store.training.report import CalibrationReport
    from model_store.training.train import Run

PUBLISHED = "published"
"""File in a run's folder that names the artifact it became."""


def already_published(folder: Path) -> bool:
    """Whether the run in ``folder`` became an artifact; says so."""
    published = folder / PUBLISHED
    if published.exists():
        console.print(f"already published as {published.read_text()}")
    return published.exists()


def train_epochs(run: Run, split: Split, show: OnProgress, minutes: float | None) -> None:
    """Train what is left of ``run``, or for some minutes; now and then the accuracy of every exit."""
    from accelerate.utils import broadcast_object_list

    stop_s = inf if minutes is None else time.monotonic() + 60 * minutes
    # All processes do what the main one decides: their clocks differ.
    while not run.done and not broadcast_object_list([time.monotonic() >= stop_s])[0]:
        run.train_epoch(
            lambda p: show(
                f"epoch {p.epoch + 1}/{p.epochs}  loss {p.loss:.3f}  {p.images_per_s:.0f} images/s",
                p.epoch * p.steps + p.step,
                p.epochs * p.steps,
            )
        )
        if run.epoch % 5 == 0 and not run.done and run.accelerator.is_main_process:
            print_accuracies(run, run.averaged_net(), split.calibration)


def print_accuracies(run: Run, net: StagedNet, rows: Rows) -> None:
    """A line on standard error: what every exit of the averaged network ``net`` gets right."""
    from model_store.training.scores import EagerRunner, collect_path

    scores = collect_path(EagerRunner(net, run.recipe.mean, run.recipe.std), range(net.stages), rows)
    shares = "  ".join(f"{share:.2%}" for share in scores.correct.mean(axis=1))
    Console(stderr=True).print(f"epoch {run.epoch}, {run.seconds:.0f} s: {shares}")


def publish_run(run: Run, split: Split, name: str, store: Path, command: str, show: OnProgress) -> None:
    """Calibrate the finished ``run`` and publish it in ``store`` as the next version of ``name``."""
    from model_store.training.publish import make_artifact, provenance

    folder = Store(store)
    manifest, weights, calibration = make_artifact(
        name,
        folder.next_version(name),
        run.averaged_net().cpu(),
        run.recipe,
        split,
        provenance(run, split, command),
        report=show,
    )
    folder.publish(manifest, weights)
    write_report(run.folder / "calibration.json", calibration.report)
    (run.folder / PUBLISHED).write_text(f"{manifest.name}@{manifest.version}")
    console.print(f"published {manifest.name}@{manifest.version}, policy {manifest.policy.id}")


def write_report(path: Path, report: CalibrationReport) -> None:
    """Write the account of a calibration, JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.model_dump_json(indent=1) + "\n")
