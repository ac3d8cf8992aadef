"""The service as a Ray Serve application: replicas over nodes, more of them under load.

    set -a; . deploy/ray/node.env; set +a
    serve run deploy.ray.app:build min_replicas=1 max_replicas=4

One replica is what ``exitramp serve`` runs without its HTTP server: the same application, models and metrics.
"""

# No annotations from __future__: Serve makes a Scale of the arguments only where the annotation is the class.
import asyncio
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from ray import serve

from deploy.ray.cores import claim_cores
from deploy.ray.pages import merge
from deploy.ray.scale import AUTOSCALING, Scale
from service.app import create_app
from service.process import prepare_process
from service.settings import Settings

PAGES_S = 5.0
"""How long all replicas together may take to write their metrics, seconds."""


class Replica:
    """One process with the service; Serve starts it, asks for its health, drains and ends it."""

    def __init__(self, settings: dict[str, Any], cores: int) -> None:
        """Prepare the process.

        Args:
            settings: Fields of ``Settings`` as JSON has them; the node's environment gives the others.
            cores: How many of its own it is kept to; 0 is not kept.
        """
        self._claims = claim_cores(cores) if cores else []
        self._settings = Settings(**settings)
        self._failures: list[Exception] = []
        prepare_process(self._settings.log_level)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application, for ``serve.ingress``."""
        self._app = create_app(self._settings, self._failures.append)
        self._app.state.service.metrics_page = self._all_pages
        return self._app

    async def check_health(self) -> None:
        """Return once the models are loaded and warm: before that Serve sends no requests.

        Raises:
            ServiceError: It cannot answer requests.
            StoreError: The models could not be loaded.
        """
        await asyncio.wait({self._app.state.loading})
        if self._failures:
            raise self._failures[0]
        self._app.state.service.check_ready()

    async def own_page(self) -> tuple[str, str]:
        """The replica's name and its own metrics."""
        page, _ = await self._app.state.service.metrics.page()
        return serve.get_replica_context().replica_id.unique_id, page.decode()

    async def _all_pages(self, _: str) -> tuple[bytes, str]:
        """The metrics of all replicas as plain text: whoever asks cannot choose which of them answers."""
        context = serve.get_replica_context()
        handle = serve.get_deployment_handle(context.deployment, context.app_name)
        pages = await handle.broadcast("own_page").results_async(timeout_s=PAGES_S, return_exceptions=True)
        merged = merge(dict(page for page in pages if not isinstance(page, BaseException)))
        return merged.encode(), CONTENT_TYPE_PLAIN_0_0_4


def build(args: Scale) -> serve.Application:
    """The application that ``serve run`` and ``serve deploy`` start; EXITRAMP_* variables are its settings.

    Raises:
        ValueError: A setting does not go with replicas.
    """
    settings = Settings()
    if settings.admin_key_sha256 is not None:
        raise ValueError(
            "EXITRAMP_ADMIN_KEY_SHA256: what an administrator changes would change one replica of several; "
            "models and policies come with another deployment"
        )
    given = settings.model_dump(mode="json", exclude_unset=True)
    given.setdefault("threads", max(1, int(args.cpus)))
    deployed: serve.Deployment = serve.deployment(
        name="exitramp",
        max_ongoing_requests=2 * settings.max_in_flight,  # who is refused is refused by the service itself
        autoscaling_config=args.model_dump(include=AUTOSCALING),
        ray_actor_options={"num_cpus": args.cpus, "num_gpus": args.gpus},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=settings.shutdown_grace_s,
        graceful_shutdown_wait_loop_s=0.2,
        logging_config={"enable_access_log": False},  # successes are the metrics' job
    )(serve.ingress()(Replica))
    return deployed.bind(given, int(args.cpus) if args.own_cores else 0)
