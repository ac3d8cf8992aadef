"""``exitramp import``: networks that others trained, as artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from model_store.store import EMBEDDED, Store
from service.cli.options import Failure, StoreOption, console, extra, load_artifact, progress

if TYPE_CHECKING:
    from model_store.training.imports import Imported


def import_model(
    source: Annotated[str, typer.Argument(help="torchvision:NAME, or cascade:A,B,… of artifacts.")],
    weights: Annotated[
        str, typer.Option(help="Of torchvision: DEFAULT, another name, or none for random ones.")
    ] = "DEFAULT",
    data: Annotated[
        Path | None, typer.Option(help="Labelled images, DIR/CLASS/*: measures and calibrates with them.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the artifact; default: from the source.")] = None,
    store: StoreOption = EMBEDDED,
) -> None:
    """Make an artifact of a torchvision classifier, or of several artifacts in a row."""
    with extra("training"):
        from model_store.training.imports import ImportFailure, describe, measure, uncalibrated_policy
        from model_store.training.labelled import load_labelled
    kind, _, names = source.partition(":")
    try:
        imported = _imported(kind, names, weights, store)
    except ImportFailure as error:
        raise Failure(str(error)) from error
    policy = uncalibrated_policy(imported.stages, imported.accuracies)
    rows: dict[str, str] = {}
    if data is not None:
        images = load_labelled(data, imported.spec, imported.classes)
        with progress() as show:
            imported, policy, rows = measure(imported, images, show)
    wanted = name or names.replace(",", "-").replace("@", "-")
    version = Store(store).next_version(wanted)
    command = f"exitramp import {source} --weights {weights} --name {wanted}"
    command += "" if data is None else f" --data {data.name}"
    try:
        manifest, encoded = describe(imported, wanted, version, policy, command, rows)
    except ValidationError as error:
        first = error.errors()[0]
        raise Failure(f"{'.'.join(map(str, first['loc']))} of {wanted!r}: {first['msg']}") from error
    Store(store).publish(manifest, encoded)
    console.print(f"published {wanted}@{version}, task {manifest.task}, policy {policy.id}", soft_wrap=True)
    if weights == "none":
        console.print("its weights are random: it knows nothing yet")
    if data is None and len(manifest.exits) > 1:
        console.print("not calibrated: all images leave at one exit; --data DIR makes easy ones leave early")


def _imported(kind: str, names: str, weights: str, store: Path) -> Imported:
    from model_store.training.imports import as_cascade, from_torchvision

    if kind == "torchvision" and names:
        return from_torchvision(names, weights)
    if kind == "cascade" and names:
        return as_cascade([load_artifact(store, member) for member in names.split(",")])
    raise Failure(f"{kind!r} cannot be imported; give torchvision:NAME or cascade:A,B")
