"""``exitramp serve`` and ``models``."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_settings import SettingsError

from model_store.store import EMBEDDED, Store
from service.cli.options import Failure, JsonOption, StoreOption, show_json


def serve() -> None:
    """Serve the models. Settings come from EXITRAMP_* environment variables; see the README."""
    from service.keys import KeysFileError
    from service.server import serve as run
    from service.settings import Settings

    try:
        problem = run(Settings())
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


def models(store: StoreOption = EMBEDDED, as_json: JsonOption = False) -> None:
    """List the artifacts of a store."""
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
        show_manifest(manifest)
