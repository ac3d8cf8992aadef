"""How work reaches a device: recorded once as a CUDA graph, or called again every time.

A launch of a span is some hundred kernels of a few microseconds each. Python takes longer to start one than
the device takes to run it; a graph starts all of them at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

import torch

Made = TypeVar("Made")

WARM_UPS = 3
"""Runs before a recording, as in ``torch.cuda.make_graphed_callables``: libraries choose kernels and set
themselves up in them, which a recording would not survive."""


class Device(Protocol):
    """Runs work on fixed tensors, over and over."""

    @property
    def place(self) -> torch.device:
        """Where tensors have to be."""
        ...

    @property
    def kind(self) -> str:
        """How work runs, for people: ``graphs`` or ``eager``."""
        ...

    def warm_up(self, work: Callable[[], Made]) -> Made:
        """Run ``work`` until it is fit to be recorded; what the last run returned.

        Nobody waits for what it has changed: it should write to tensors of its own only.
        """
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Make ``work`` repeatable: what is returned does it again, on the same tensors, and waits not.

        ``work`` itself may be run or not. Its tensors must live for as long as what is returned.
        """
        ...

    def mark(self) -> Callable[[], None]:
        """Mark this moment in the device's work; what is returned waits until the work has come there."""
        ...


class EagerDevice:
    """Calls the work again: the reference for graphs, and their stand-in where there is no CUDA device."""

    kind = "eager"

    def __init__(self, place: torch.device) -> None:
        """Work at ``place``."""
        self.place = place

    def warm_up(self, work: Callable[[], Made]) -> Made:
        """See ``Device.warm_up``; once is enough."""
        return work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Device.record``."""
        return work

    def mark(self) -> Callable[[], None]:
        """See ``Device.mark``; on a processor work is done when it has been called."""
        return _mark(self.place) if self.place.type == "cuda" else _nothing


class GraphDevice:
    """Records CUDA graphs. All of a device share one memory pool and one stream to record on.

    Within the shared pool any graph's intermediate values may lie over any other's. So graphs must leave
    nothing there that is read after them (results go to tensors from outside), and never run at the same
    time: all of them are replayed on the current stream, which is the default stream in every thread.
    """

    kind = "graphs"

    def __init__(self, place: torch.device) -> None:
        """Set up the pool. Use ``graph_device``, or there would be several.

        Args:
            place: A CUDA device with its index.
        """
        self.place = place
        self._stream = _recording_stream(place)
        self._pool = torch.cuda.graph_pool_handle()
        # A pool ends with its last graph, and cannot be recorded into again. This one keeps it alive.
        self._dot = torch.zeros(1, device=place)
        self._keeper = self.record(self._almost_nothing)

    def _almost_nothing(self) -> None:
        self._dot.zero_()

    def warm_up(self, work: Callable[[], Made]) -> Made:
        """See ``Device.warm_up``: on the stream that is recorded on, as libraries set up each for itself."""
        with _recording, torch.cuda.device(self.place):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    made = work()
            self._stream.synchronize()
        return made

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Device.record``; the work is not run."""
        graph = torch.cuda.CUDAGraph()
        # The outer stream context puts the stream back where the inner one fails to: when a recording breaks.
        with (
            _recording,
            torch.cuda.device(self.place),
            torch.cuda.stream(self._stream),
            # thread_local: other models' launches go on meanwhile, in another thread.
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            work()
        return graph.replay

    def mark(self) -> Callable[[], None]:
        """See ``Device.mark``."""
        return _mark(self.place)


_recording = threading.Lock()
"""Held while one graph is recorded: CUDA allows no two in a process, and no other work on their stream."""


@cache
def _recording_stream(place: torch.device) -> torch.cuda.Stream:
    """Kept for good: libraries keep work space of megabytes for every stream that they have seen."""
    return torch.cuda.Stream(place)  # type: ignore[no-untyped-call]


_devices: WeakValueDictionary[torch.device, GraphDevice] = WeakValueDictionary()


def graph_device(place: torch.device) -> GraphDevice:
    """The one that all models on the CUDA device ``place`` share; it goes with the last of them."""
    index = torch.cuda.current_device() if place.index is None else place.index
    place = torch.device("cuda", index)
    with _looking:
        found = _devices.get(place)
        if found is None:
            found = _devices[place] = GraphDevice(place)
        return found


_looking = threading.Lock()


def _mark(place: torch.device) -> Callable[[], None]:
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(place))
    return event.synchronize  # waits without the interpreter's lock, for this event and nothing behind it


def _nothing() -> None:
    """Wait for nothing."""
