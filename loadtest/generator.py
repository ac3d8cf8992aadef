"""Sends images, closed loop or open loop, and keeps when each request was due, left and was answered."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp

from loadtest.errors import LoadTestError
from loadtest.images import Picture

TIMEOUT_S = 60
KEEP_ALIVE_S = 3
"""Shorter than servers keep idle connections: else one may be closed in the moment of its next use."""


KEPT = ("label", "index", "exit", "flops", "degraded")
"""Of each prediction."""


@dataclass(slots=True)
class Sample:
    """One request; times are seconds of ``time.perf_counter``.

    Attributes:
        due_s: When it should have been sent.
        sent_s: When its headers went to the operating system.
        done_s: When the last byte of its answer was there.
        status: HTTP status, or the name of the error in its place.
        retry_after: Whether the answer says when to come back.
        prediction: What a 200 says about the image.
        model: That answered.
        right: Whether the class is that of the image; ``None`` where nobody knows.
        picture: That was sent.
    """

    due_s: float
    sent_s: float = 0.0
    done_s: float = 0.0
    status: str = ""
    retry_after: bool = False
    prediction: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    right: bool | None = None
    picture: Picture | None = None

    @property
    def seconds(self) -> float:
        """From the moment in which the request was due; timers may also wake up half a millisecond early."""
        return self.done_s - min(self.due_s, self.sent_s or self.due_s)

    @property
    def lag_s(self) -> float:
        """By how much the request left late, which is the client's doing; 0 if it never left."""
        return max(0.0, self.sent_s - self.due_s)


@dataclass
class Run:
    """All requests of one measurement.

    Rates are those of the window in which requests are sent: a single late answer lengthens what comes after
    it, the drain, and would dilute them.

    Attributes:
        samples: In the order of their answers.
        seconds: Length of the window.
        end_s: Its end, of ``time.perf_counter``.
        cpu_s: Processor time that this process spent in it.
    """

    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    end_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def in_time(self) -> list[Sample]:
        """What was over, well or not, before the window was."""
        return [sample for sample in self.samples if sample.done_s <= self.end_s]

    @property
    def drain_s(self) -> float:
        """From the end of the window to the last answer, seconds."""
        return max(0.0, max((sample.done_s for sample in self.samples), default=0.0) - self.end_s)

    @asynccontextmanager
    async def window(self, seconds: float) -> AsyncIterator[float]:
        """Measure the first ``seconds`` of the block, which lasts at least as long; gives their end.

        The garbage collector rests: its pauses would be taken for the server's.
        """
        gc.disable()
        started_s, cpu_s = time.perf_counter(), time.process_time()

        async def end() -> None:
            await asyncio.sleep(seconds)
            self.end_s, self.cpu_s = time.perf_counter(), time.process_time() - cpu_s
            self.seconds = self.end_s - started_s

        ending = asyncio.create_task(end())
        try:
            yield started_s + seconds
            await ending
        finally:
            ending.cancel()
            gc.enable()


def open_session(
    url: str, connections: int, headers: Mapping[str, str] | None = None
) -> aiohttp.ClientSession:
    """A client of the service at ``url`` that notes when requests leave; all of them carry ``headers``.

    Raises:
        LoadTestError: ``url`` is none.
    """

    async def note(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.sent_s = time.perf_counter()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(note)
    try:
        return aiohttp.ClientSession(
            f"{url.rstrip('/')}/",  # so that paths are relative to it, also behind a prefix
            headers=headers,
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            trace_configs=[trace],
        )
    except ValueError as error:
        raise LoadTestError(f"{url!r} is no URL of a service: {error}") from error


class Sender:
    """Sends pictures in turn, always in the same order: every measurement asks about the same ones."""

    def __init__(
        self, session: aiohttp.ClientSession, pictures: Sequence[Picture], headers: Mapping[str, str]
    ) -> None:
        """Send ``pictures`` over ``session`` with ``headers``, those without a value left out."""
        self._session = session
        self._pictures = itertools.cycle(pictures)
        self._headers = {name: value for name, value in headers.items() if value}
        self._headers["Content-Type"] = "application/octet-stream"

    async def send(self, run: Run, due_s: float) -> Sample:
        """Send one picture and enter what became of it."""
        picture = next(self._pictures)
        sample = Sample(due_s, picture=picture)
        try:
            async with self._session.post(
                "classify", data=picture.content, headers=self._headers, trace_request_ctx=sample
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            sample.done_s, sample.status = time.perf_counter(), type(error).__name__
        else:
            sample.done_s, sample.status = time.perf_counter(), str(answer.status)
            sample.retry_after = "Retry-After" in answer.headers
            if answer.status == 200:
                _enter(sample, body, picture)
        run.samples.append(sample)
        return sample


class Sends(Protocol):
    """Whoever sends requests of its own choice."""

    async def send(self, run: Run, due_s: float) -> object:
        """Send one and enter what became of it; it was due at ``due_s`` of ``time.perf_counter``."""


def _enter(sample: Sample, body: bytes, picture: Picture) -> None:
    """What a 200 says."""
    try:
        answer = json.loads(body)
        (prediction,) = answer["predictions"]
        kept = {name: prediction[name] for name in KEPT}
        sample.model, sample.right = answer["model"], picture.shown_by(prediction)
    except (ValueError, KeyError, TypeError):
        sample.status = "unreadable"
    else:
        sample.prediction = kept


async def closed_loop(sender: Sends, connections: int, seconds: float) -> Run:
    """As many requests as ``connections`` users get answered who send one after the other: the capacity."""
    run = Run()

    async def user(end_s: float) -> None:
        while (now_s := time.perf_counter()) < end_s:
            await sender.send(run, now_s)

    async with run.window(seconds) as end_s:
        await asyncio.gather(*(user(end_s) for _ in range(connections)))
    return run


async def paced_loop(sender: Sends, users: int, rate: float, seconds: float, chance: random.Random) -> Run:
    """``users`` who together send ``rate`` requests a second at random times and wait for their answers.

    Whose answer came late sends the next request at once; it is due then, for the wait was another answer's.
    """
    run = Run()

    async def user(due_s: float, end_s: float) -> None:
        while (due_s := due_s + chance.expovariate(rate / users)) < end_s:
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            await sender.send(run, max(due_s, time.perf_counter()))

    async with run.window(seconds) as end_s:
        await asyncio.gather(*(user(end_s - seconds, end_s) for _ in range(users)))
    return run


async def open_loop(sender: Sends, rate: float, seconds: float, chance: random.Random) -> Run:
    """Poisson arrivals: ``rate`` requests a second on average, whether or not earlier ones were answered."""
    run = Run()
    tasks: set[asyncio.Task[object]] = set()
    async with run.window(seconds) as end_s:
        due_s = end_s - seconds
        while due_s < end_s:
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(sender.send(run, due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due_s += chance.expovariate(rate)
        await asyncio.gather(*tasks)
    return run
