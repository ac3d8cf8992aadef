"""``exitramp serve`` and ``models``."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from model_store.quantized import read_record
from model_store.store import EMBEDDED, Store
from service.cli.options import Failure, JsonOption, StoreOption, progress, show_json


def serve(
    http_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes for HTTP and decoding, over EXITRAMP_HTTP_WORKERS."),
    ] = None,
) -> None:
    """Serve the models. Settings come from EXITRAMP_* environment variables; see the README."""
    from service.front.launching import become_supervisor
    from service.keys import KeysFileError
    from service.server import serve as run
    from service.settings import Settings

    try:
        settings = Settings() if http_workers is None else Settings(http_workers=http_workers)
        if settings.http_workers > 1:
            become_supervisor(settings)
        problem = run(settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(map(str, first["loc"][:1])).upper()
        problem = f"EXITRAMP_{name}: {first['msg']}"
    except SettingsError as error:
        problem = f"EXITRAMP_*: {error}; lists are JSON, e.g. '[\"cifar10-fusion\"]'"
    except KeysFileError as error:
        problem = str(error)
    if problem is not None:
        raise Failure(problem)


def models(
    store: StoreOption = EMBEDDED,
    zoo: Annotated[
        bool,
        typer.Option("--zoo", help="List instead all networks that can be built, with the papers' figures."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the artifacts of a store, or all networks that can be built."""
    if zoo:
        _list_zoo(as_json)
        return
    from service.cli.tables import show_manifest

    manifests = [
        Store(store).read_manifest(name, version)
        for name, versions in Store(store).versions().items()
        for version in versions
    ]
    if as_json:
        show_json([manifest.model_dump(mode="json") for manifest in manifests])
        return
    for manifest in manifests:
        folder = store / manifest.name / str(manifest.version)
        show_manifest(manifest, read_record(folder, manifest.weights_sha256))


def _list_zoo(as_json: bool) -> None:
    from model_store.zoo import count_zoo, zoo
    from service.cli.zoo_table import show_zoo

    counted = []
    with progress() as show:
        for entry in count_zoo():
            counted.append(entry)
            show(entry.name, len(counted), len(zoo()))
    if as_json:
        show_json([entry.model_dump(mode="json") for entry in counted])
    else:
        show_zoo(counted)
