"""What the routes of one application share."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fastapi import Request

from service import VERSION
from service.decoding import Decoder
from service.engine.engine import Engine
from service.engine.gpu import show_memory
from service.engine.health import Unwell
from service.engine.loaded import LoadedModel
from service.errors import Draining, Forbidden, NotReady, Unauthorized
from service.keys import Client, KeyRing, open_local
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings

if TYPE_CHECKING:
    from service.shared_quotas import QuotaStore
    from service.tracing import Tracing


class Service:
    """Settings, metrics, keys and, once loaded, models and engine."""

    def __init__(self, settings: Settings) -> None:
        """Prepare everything that needs no models.

        Raises:
            KeysFileError: The keys file cannot be used.
        """
        self.settings = settings
        self.metrics = Metrics()
        self.metrics_page = self.metrics.page  # replicas behind one address give the page of them all
        self.quota_store = _quota_store(settings, self.metrics)
        open_bucket = open_local if self.quota_store is None else self.quota_store.open
        self.keys = None if settings.keys_file is None else KeyRing.load(settings.keys_file, open_bucket)
        self.draining = False
        self.decoder = Decoder(settings, self.metrics.decode_seconds)
        self.drawers = ThreadPoolExecutor(1, thread_name_prefix="draw")
        self.drawing = 0  # explanations that wait for their picture, on the event loop alone
        self.lifecycle = Lifecycle(settings, self.metrics)
        self.tracing = _tracing(settings)
        self.arriving: Callable[[], int] = lambda: 0  # requests that other processes receive
        self.on_lost: Callable[[str], None] = lambda _: None  # the device is; the process should end
        self._engine: Engine | None = None

    async def load(self) -> None:
        """Look for Redis, load the models off the event loop, then start the engine.

        Raises:
            StoreError: An artifact is missing or broken.
        """
        if self.quota_store is not None:
            await self.quota_store.probe(time.monotonic())
        await self.lifecycle.start()
        show_memory(self.metrics)
        engine = Engine(
            self.metrics,
            max_in_flight=self.settings.max_in_flight,
            max_batch=self.settings.max_batch,
            max_wait_s=self.settings.max_wait_s,
            objective_s=self.settings.latency_objective_s,
            brownout=self.settings.brownout,
            recheck_share=self.settings.recheck_share,
            arriving=lambda: self.arriving(),
            launch_timeout_s=self.settings.launch_timeout_s,
            on_lost=lambda reason: self.on_lost(reason),
        )
        engine.start()
        self._engine = engine

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self.draining = True

    async def close(self) -> None:
        """Answer what is queued and free threads and connections."""
        await self.lifecycle.close()
        if self._engine is not None:
            await self._engine.stop()
        if self.quota_store is not None:
            await self.quota_store.close()
        self.decoder.close()
        self.drawers.shutdown(wait=False, cancel_futures=True)
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    def loaded(self) -> tuple[Registry, Engine]:
        """Registry and engine.

        Raises:
            NotReady: Models are still loading.
            Draining: The server is shutting down.
        """
        if self.draining:
            raise Draining("the server is shutting down; ask another replica", retry_after_s=1)
        if self._engine is None:
            raise NotReady("the models are still being loaded", retry_after_s=2)
        return self.lifecycle.registry, self._engine

    def check_ready(self) -> None:
        """Do nothing if requests can be answered: those that name no model, others may still have to wait.

        Raises:
            NotReady: Models are still loading, none is left, the default model is unwell or the device hangs.
            Draining: The server is shutting down.
        """
        registry, _ = self.loaded()
        if not registry.models:
            raise NotReady("no model is loaded", retry_after_s=2)
        self.check_well(registry.find(None))

    def check_well(self, models: Iterable[LoadedModel]) -> None:
        """Do nothing if the device answers and launches of ``models`` work.

        Raises:
            NotReady: One of them does not.
            Draining: The server is shutting down.
        """
        _, engine = self.loaded()
        try:
            engine.check(models)
        except Unwell as error:
            raise NotReady(str(error), error.retry_after_s) from error

    def authenticate(self, api_key: str | None) -> Client | None:
        """The caller, or ``None`` where no keys are configured.

        Raises:
            Unauthorized: Keys are configured, and this is none of them.
        """
        if self.keys is None:
            return None
        self.keys.reload_if_changed(time.monotonic())
        return self.keys.authenticate(api_key)


async def require_admin(request: Request) -> None:
    """Let nobody pass but the holder of the administrator's key; a coroutine, as others take a thread.

    Raises:
        Forbidden: No such key is configured.
        Unauthorized: The request's X-Admin-Key is missing or wrong.
    """
    wanted = service_of(request).settings.admin_key_sha256
    if wanted is None:
        raise Forbidden("administration is off; EXITRAMP_ADMIN_KEY_SHA256 turns it on")
    given = hashlib.sha256(request.headers.get("X-Admin-Key", "").encode("latin-1")).hexdigest()
    if not hmac.compare_digest(given, wanted):
        raise Unauthorized("this needs the administrator's key in the header X-Admin-Key", "X-Admin-Key")


def _quota_store(settings: Settings, metrics: Metrics) -> QuotaStore | None:
    """Where replicas share their accounts, if they do."""
    if settings.keys_file is None or settings.redis_url is None:
        return None
    # Imported where it is used: most services run alone, and the client takes its share of a start.
    from service.shared_quotas import QuotaStore

    return QuotaStore(str(settings.redis_url), metrics.quota_store_up.labels("redis"))


def _tracing(settings: Settings) -> Tracing | None:
    """What sends traces, if they are wanted."""
    if settings.otlp_endpoint is None:
        return None
    from service.tracing import Tracing

    return Tracing(str(settings.otlp_endpoint), settings.trace_share, VERSION)


def service_of(request: Request) -> Service:
    """The service that ``request`` was sent to."""
    service: Service = request.app.state.service
    return service
