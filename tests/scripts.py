"""Scripts of what may happen to an engine, played on a real one whose clock and launches obey the script."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from conftest import random_images
from script_steps import LONGEST_S, Arrive, Clock, ClockedLoop, Fate, Launch, Leave, Pass, Reload, Step

from model_store import exits
from model_store.nets.staged import Features, Span
from model_store.policy import Plan
from model_store.store import Artifact
from service.engine.engine import Engine
from service.engine.executors import TorchExecutor
from service.engine.loaded import LoadedModel
from service.engine.submission import Submission
from service.engine.ticket import Outcome, Prediction
from service.metrics import Metrics

IMAGES = random_images(96, seed=12)
"""What scripts send, each image once: it tells whose it is."""


class Device:
    """What both versions of the model run on: every launch waits to be told how it ends.

    Attributes:
        begun: Images whose first launch has begun, by their bytes.
        busy: A launch has begun and waits to be told.
        looked: Its thread has looked for work since it was told something.
        launches: How many have begun.
    """

    def __init__(self, clock: Clock) -> None:
        self.begun: set[bytes] = set()
        self.busy, self.looked, self.launches = threading.Event(), True, 0
        self._clock, self._told = clock, queue.SimpleQueue[Launch]()
        self._open = False

    def tell(self, launch: Launch) -> None:
        self.busy.clear()
        self.looked = False
        self._told.put(launch)

    def open(self) -> None:
        """From now on every launch goes right at once."""
        self._open = True
        if self.busy.is_set():
            self.tell(Launch("right", 0.0))

    def arriving(self) -> int:
        """The engine's thread asks whenever it looks for work, the event loop when it admits."""
        self.looked |= threading.current_thread() is not threading.main_thread()
        return 0

    def launch(self, span: Span, features: Features) -> Fate:
        self.launches += 1
        if span.first == 0:
            self.begun |= {row.tobytes() for row in features[0].numpy()}
        if self._open:
            return "right"
        self.busy.set()
        told = self._told.get(timeout=30)
        self._clock.now_s += told.seconds
        return told.fate


class ScriptedExecutor(TorchExecutor):
    """The network in eager torch; its launches end as the device of the present script is told."""

    scripted: Device

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact.net, artifact.manifest.input, torch.device("cpu"))

    def run(self, span: Span, features: Features) -> tuple[Features, torch.Tensor]:
        fate = self.scripted.launch(span, features)
        if fate == "raises":
            raise RuntimeError("the script says so")
        if fate == "out of memory":
            raise torch.OutOfMemoryError("the script says so")
        features, logits = super().run(span, features)
        if fate == "right":
            return features, logits
        logits = logits.clone()
        logits[0 if fate == "one NaN" else slice(None)] = float("nan")
        return features, logits


class Version:
    """One version of the model: what scripts run, and what every exit says of an image that runs alone."""

    def __init__(self, artifact: Artifact) -> None:
        self.manifest = artifact.manifest
        self.executor = ScriptedExecutor(artifact)
        self._alone = TorchExecutor(artifact.net, artifact.manifest.input, torch.device("cpu"))
        self._known: dict[tuple[int, tuple[int, ...]], list[list[float]]] = {}

    def rows(self, number: int, plan: Plan) -> list[list[float]]:
        """Per consulted exit a row of ``exits.read``."""
        if (number, plan.exits) not in self._known:
            features: Features = (torch.from_numpy(IMAGES[number][None].copy()),)
            rows = []
            for span in plan.spans():
                features, logits = self._alone.run(span, features)
                rows.append(exits.read(logits, self.manifest.policy.confidence)[0].tolist())
            self._known[number, plan.exits] = rows
        return self._known[number, plan.exits]


@dataclass
class Request:
    """One request of a script, and what became of it."""

    model: LoadedModel
    version: Version
    numbers: list[int]
    plan: Plan
    deadline_s: float | None
    submission: Submission | None = None
    task: asyncio.Task[None] | None = None
    passed: list[Prediction] = field(default_factory=list)
    ends: list[list[Outcome] | BaseException] = field(default_factory=list)
    ended_s: float = 0.0
    left: bool = False


class Stage:
    """A real engine with its thread, on which a script is played."""

    def __init__(self, versions: Sequence[Version], plans: Callable[[LoadedModel], list[Plan]]) -> None:
        self.clock = Clock()
        self.device = Device(self.clock)
        self.metrics = Metrics()
        self.requests: list[Request] = []
        self.barred: set[bytes] = set()
        self.complaints: list[dict[str, Any]] = []
        self._served: list[tuple[LoadedModel, Version, list[Plan]]] = []
        for version in versions:
            version.executor.scripted = self.device
            model = LoadedModel(version.manifest, version.executor)
            self._served.append((model, version, plans(model)))
        self._numbers = iter(range(len(IMAGES)))

    def play(self, script: Sequence[Step], max_batch: int) -> None:
        """Play ``script``, let what is left go right, stop the engine, and let the last deadlines pass."""
        with asyncio.Runner(loop_factory=lambda: ClockedLoop(self.clock)) as runner:
            runner.run(self._play(script, max_batch))

    async def _play(self, script: Sequence[Step], max_batch: int) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.complaints.append(what))
        self.engine = Engine(
            self.metrics,
            max_in_flight=6,
            max_batch=max_batch,
            max_wait_s=0.0,
            arriving=self.device.arriving,
        )
        self.engine.start()
        try:
            for step in script:
                await self._do(step)
                await self._settle()
        finally:
            self.device.open()
            await self.engine.stop()
            await _everything_ready()
        due_s = [each.deadline_s for each in self.requests if each.deadline_s is not None and not each.ends]
        while self.clock.now_s < max(due_s, default=0.0):
            await self._do(Pass(LONGEST_S))
            await self._settle()
        self.waiting_for_ever = [each for each in self.requests if not each.ends]

    async def _do(self, step: Step) -> None:
        waiting = [each for each in self.requests if not each.ends]
        match step:
            case Arrive():
                self._arrive(step)
            case Leave(who) if who < len(waiting):
                self._leave(waiting[who])
            case Launch() if self.device.busy.is_set():
                self.device.tell(step)
            case Pass(seconds):
                self.clock.now_s += seconds
            case Reload():
                self._served.reverse()
                self._served[0][0].continues(self._served[1][0])

    def _arrive(self, step: Arrive) -> None:
        numbers = [number for number, _ in zip(self._numbers, range(step.images), strict=False)]
        if not numbers:
            return
        model, version, plans = self._served[0]
        deadline_s = None if step.deadline_s is None else self.clock.now_s + step.deadline_s
        request = Request(model, version, numbers, plans[step.plan % len(plans)], deadline_s)
        self.requests.append(request)
        request.task = asyncio.create_task(self._ask(request))

    async def _ask(self, request: Request) -> None:
        try:
            with self.engine.admit() as permit:
                images = [IMAGES[number].copy() for number in request.numbers]
                request.submission = self.engine.submit(
                    request.model,
                    images,
                    request.plan,
                    permit,
                    request.deadline_s,
                    passing=lambda _, said: request.passed.append(said),
                )
                request.ends.append(await request.submission.outcomes())
        except (Exception, asyncio.CancelledError) as error:
            request.ends.append(error)
        request.ended_s = self.clock.now_s

    def _leave(self, request: Request) -> None:
        assert request.task is not None
        request.left = request.task.cancel()
        if self.device.busy.is_set():  # else a launch of theirs may be about to begin
            self.barred |= {IMAGES[number].tobytes() for number in request.numbers} - self.device.begun

    @property
    def depth(self) -> float:
        """Images in the queues, as the metrics tell."""
        return sum(sample.value for sample in self.metrics.queue_depth.collect()[0].samples)

    async def _settle(self) -> None:
        """Until the device waits to be told, or only time can bring those who wait any further."""
        for _ in range(20_000):
            await _everything_ready()
            if self.device.busy.is_set() or all(each.ends for each in self.requests):
                break
            if self.device.looked and not self.depth and not self.device.busy.wait(0.001):
                break
            self.device.busy.wait(0.0002)
        await _everything_ready()


async def _everything_ready() -> None:
    for _ in range(6):
        await asyncio.sleep(0)
