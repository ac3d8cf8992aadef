"""Whoever is told to end while models are loaded ends well."""

from __future__ import annotations

import asyncio

from conftest import SmallStore

from service.app import create_app
from service.settings import Settings


async def test_draining_before_all_is_loaded_is_no_failure(small_store: SmallStore) -> None:
    failures: list[Exception] = []
    ready: list[bool] = []
    app = create_app(
        Settings(model_store=small_store.root, models=("small",), executor="torch"),
        failures.append,
        lambda: ready.append(True),
    )
    app.state.service.draining = True
    async with app.router.lifespan_context(app):
        await asyncio.wait_for(app.state.loading, 30)
    assert not failures and not ready
