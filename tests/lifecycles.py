"""A lifecycle over a store of small models, for tests of what comes and goes."""

from __future__ import annotations

from conftest import small_manifest, small_net

from model_store.store import Store
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.settings import Settings


def publish(store: Store, version: int, seed: int = 0, **fields: object) -> None:
    """Add a version of the model ``small``."""
    manifest, weights = small_manifest(small_net(seed), version=version, **fields)  # type: ignore[arg-type]
    store.publish(manifest, weights)


def settings_of(store: Store) -> Settings:
    """Of a service that has nothing but ``small``, computed by the reference."""
    return Settings(model_store=store.root, models=("small",), executor="torch")


async def begun(settings: Settings) -> Lifecycle:
    """A lifecycle that has loaded what ``settings`` name."""
    lifecycle = Lifecycle(settings, Metrics())
    await lifecycle.start()
    return lifecycle
