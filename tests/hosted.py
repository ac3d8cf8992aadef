"""A server on a thread of the test's own process, whose device the test can make fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from torch import Tensor

from model_store.nets.staged import Features, Span
from service.app import create_app
from service.http_server import Server, configure, listen
from service.settings import Settings
from service.state import Service

Fault = Callable[[Span, Features], None]
"""Raises or blocks instead of a launch, or does nothing."""


def no_fault(span: Span, features: Features) -> None:
    """The device is well."""


class Faults:
    """Comes between a model's executor and whoever launches.

    Attributes:
        before: Called before each launch.
        after: Makes something else of its logits.
        launches: All of them: span and images.
        seen: What the last one was given.
    """

    def __init__(self, executor: Any) -> None:
        self._run = executor.run
        self.before: Fault = no_fault
        self.after: Callable[[Tensor], Tensor] = lambda logits: logits
        self.launches: list[tuple[Span, int]] = []
        self.seen: Features = ()
        executor.run = self._instead

    def _instead(self, span: Span, features: Features) -> tuple[Features, Tensor]:
        self.seen = features
        self.launches.append((span, len(features[0])))
        self.before(span, features)
        features, logits = self._run(span, features)
        return features, self.after(logits)


def held_by(gate: threading.Event) -> Fault:
    """The device does nothing until ``gate`` is set."""

    def wait(span: Span, features: Features) -> None:
        assert gate.wait(100)

    return wait


def counted(answers: Iterable[httpx.Response]) -> str:
    """What became of requests, as figures have it."""
    statuses = Counter(answer.status_code for answer in answers)
    return ", ".join(f"{statuses[status]} x {status}" for status in sorted(statuses))


def known(entry: dict[str, Any]) -> tuple[int, int, int]:
    """What does not depend on the neighbours of an image, to the last bit: class, exit and FLOPs."""
    return entry["index"], entry["exit"], entry["flops"]


@dataclass
class Hosted:
    """A server that runs."""

    url: str
    service: Service
    client: httpx.Client

    def faults(self, model: str = "small@1") -> Faults:
        """To make launches of ``model`` fail from now on."""
        return Faults(self.service.lifecycle.registry.models[model].executor)

    def sample(self, name: str, **labels: str) -> float:
        """One value of the metrics, 0 if it is not there yet."""
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def hosted(store: Path, **more: Any) -> Iterator[Hosted]:
    """A server of the models ``small`` (or what ``more`` says) in ``store``, in eager torch."""
    chosen = {"models": ("small",), "executor": "torch", "brownout": False, "recheck_share": 0.0, **more}
    settings = Settings(model_store=store, port=0, **chosen)
    ready, failures = threading.Event(), list[Exception]()
    app = create_app(settings, failures.append, ready.set)
    server = Server(configure(app, settings), app.state.service.drain)
    with listen(settings) as listener:
        host, port = listener.getsockname()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(60), failures
            url = f"http://{host}:{port}"
            with httpx.Client(base_url=url, timeout=60) as client:
                yield Hosted(url, app.state.service, client)
        finally:
            server.end()
            thread.join(60)
            assert not thread.is_alive()
