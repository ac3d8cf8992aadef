"""The engine as the routes see it: submission, cancellation, drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from math import inf

from model_store.policy import Plan
from service.engine.admission import Admission, Permit
from service.engine.brownout import Brownout
from service.engine.decide import Delivery
from service.engine.group import Group
from service.engine.health import Unwell
from service.engine.launches import Running
from service.engine.loaded import LoadedModel
from service.engine.submission import Submission, future_of
from service.engine.ticket import Image, Launch, LaunchError, Passed, Prediction, Ticket
from service.engine.times import Estimate
from service.engine.watch import DriftWatch
from service.engine.watchdog import Watchdog
from service.engine.worker import Worker
from service.metrics import Metrics


class Engine:
    """Accepts images from the event loop and answers them from the worker's thread."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_in_flight: int,
        max_batch: int,
        max_wait_s: float,
        objective_s: float = 1.0,
        brownout: bool = False,
        recheck_share: float = 0.0,
        arriving: Callable[[], int] = lambda: 0,
        launch_timeout_s: float = 15.0,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare; ``start`` must be called on the event loop that submits.

        Args:
            metrics: Where everything is observed.
            max_in_flight: Permits: requests between admission and answer.
            max_batch: Images per launch.
            max_wait_s: Longest wait of a lone image for company, seconds.
            objective_s: Time in which a request without a deadline should be answered, seconds.
            brownout: Whether load shrinks the budgets of requests that name none.
            recheck_share: Share of early leavers that go on to the last exit when there is time.
            arriving: How many requests other processes are receiving for it.
            launch_timeout_s: Longest time of a launch, seconds; then those who wait are told, others refused.
            on_lost: Called with the reason if it takes as long once more, or the device is lost otherwise:
                only another process can mend that. On the event loop or the worker's thread.
        """
        self.brownout = Brownout(objective_s, brownout)
        # Asked for at each scrape: between requests it fades by itself.
        metrics.brownout.set_function(lambda: self.brownout.strength(time.monotonic()))
        self.admission = Admission(max_in_flight, max_batch, objective_s, self.brownout, metrics, arriving)
        metrics.in_flight.set_function(lambda: self.admission.in_flight + arriving())
        self.way_back = Estimate()  # from an exit's decision to the written answer
        self._objective_s = objective_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker = Worker(
            metrics,
            self.brownout,
            DriftWatch(recheck_share, metrics),
            self._hand_over,
            max_batch=max_batch,
            max_wait_s=max_wait_s,
            objective_s=objective_s,
            arriving=lambda: self.admission.arriving + arriving(),
            on_lost=on_lost,
        )
        self._failures = metrics.device_failures
        self._waiting: set[Submission] = set()
        launches = self._worker.launches
        self._watchdog = Watchdog(
            launch_timeout_s, lambda: launches.running, lambda: bool(self._waiting), self._give_up, on_lost
        )

    def start(self) -> None:
        """Start the worker; answers arrive on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._worker.start()

    def shrunk(self, budget: float, floor: float) -> float:
        """What load leaves of a default budget now, see ``Brownout.shrunk``."""
        return self.brownout.shrunk(budget, floor, time.monotonic())

    def is_patient(self, limit: float | None, deadline_ms: float | None) -> bool:
        """Whether a request needs no answer in hand on its way.

        That is so without a deadline, and under a limit also if it leaves more than twice the objective.
        """
        if deadline_ms is None:
            return True
        return limit is not None and deadline_ms / 1000 > 2 * self._objective_s

    async def stop(self) -> None:
        """Answer what is queued, then end the worker; one that hangs is left behind."""
        await asyncio.to_thread(self._worker.stop, self._watchdog.hangs)
        self._watchdog.stop()

    def check(self, models: Iterable[LoadedModel] = ()) -> None:
        """Do nothing while the device answers and launches of ``models`` work.

        Raises:
            Unwell: One of them does not; to ask now would be in vain.
        """
        self._watchdog.check()
        for model in models:
            model.health.check()

    def admit(self, patient: bool = True) -> AbstractContextManager[Permit]:
        """See ``Admission.admit``.

        Raises:
            Unwell: The device hangs.
        """
        self.check()
        return self.admission.admit(patient)

    def submit(
        self,
        model: LoadedModel,
        images: Sequence[Image],
        plan: Plan,
        permit: Permit,
        deadline_s: float | None = None,
        *,
        asked: tuple[float | None, float | None] = (None, None),
        degraded: bool = False,
        passing: Callable[[LoadedModel, Prediction], None] | None = None,
        whole: bool = False,
        trail: list[Launch] | None = None,
    ) -> Submission:
        """Queue the images of one request.

        Several images with a mean budget share one exact sum: never more than ``len(images)`` budgets.

        Args:
            model: That answers.
            images: uint8 (3, H, W) each, at least one.
            plan: From ``model.plan``.
            permit: From ``admit``.
            deadline_s: Time (``time.monotonic``) at which the answer should be with the client, or ``None``:
                the best answer so far is given as much earlier as it takes to get there.
            asked: Mean budget and limit of the request, for a policy on trial.
            degraded: Whether ``plan`` is cheaper than what was asked for.
            passing: Called on the event loop with what each earlier exit says of an image.
            whole: Whether the answers are to hold the probabilities of all classes.
            trail: Takes the launches that the images are in.
        """
        expires_s = inf if deadline_s is None else deadline_s
        if deadline_s is not None:
            now_s = time.monotonic()
            # At most half: whatever was measured, there must be time for an answer.
            deadline_s -= min(self.way_back.bound_s(now_s), max(0.0, (deadline_s - now_s) / 2))
        tickets = self._tickets(model, images, plan, deadline_s)
        for ticket in tickets:
            ticket.expires_s = expires_s
            ticket.degraded, ticket.passing, ticket.whole = degraded, passing, whole
            ticket.trail = trail
        if model.shadow is not None and len(tickets) == 1 and deadline_s is None and not degraded:
            (live,) = tickets
            # Its turn comes after the answer, and then the place of a front's image is another's.
            live.shadow = model.shadow.ticket(images[0].copy(), *asked, live=lambda: live.answer)
        self._worker.submit(tickets)
        permit.submitted()
        submission = Submission(tickets, deadline_s, self.way_back, self.admission.answered, self._ended)
        self._waiting.add(submission)
        return submission

    def _tickets(
        self, model: LoadedModel, images: Sequence[Image], plan: Plan, deadline_s: float | None
    ) -> list[Ticket]:
        assert self._loop is not None, "start() comes first"
        exact = len(images) > 1 and plan.budget is not None
        group = Group(plan, len(images), len(images) * plan.allowed) if exact else None
        ledger = None if exact else model.ledger(plan)
        now_s = time.monotonic()
        patience_s = model.patience_s(plan, self._objective_s)
        due_s = now_s + patience_s if deadline_s is None else min(deadline_s, now_s + self._objective_s)
        return [
            Ticket(
                model=model,
                plan=plan,
                image=image,
                arrival_s=now_s,
                future=self._loop.create_future(),
                deadline_s=deadline_s,
                due_s=due_s,
                ledger=ledger,
                group=group,
                opens=i == 0,
            )
            for i, image in enumerate(images)
        ]

    def _ended(self, submission: Submission) -> None:
        self._waiting.discard(submission)
        self.admission.departed()

    def _give_up(self, running: Running, reason: Unwell) -> None:
        """Tell all who wait that the device hangs; what it still says of their images nobody hears."""
        self._failures.labels(running.model.partition("@")[0], "hung").inc()
        for submission in list(self._waiting):
            submission.give_up(reason)

    def _hand_over(self, delivery: Delivery) -> None:
        """On the worker's thread: one hop to the event loop for the whole launch."""
        assert self._loop is not None
        if self._loop.is_closed():  # a launch that was left behind when it hung
            return
        self._loop.call_soon_threadsafe(_deliver, delivery, time.monotonic(), self.way_back)


def _deliver(delivery: Delivery, handed_s: float, way_back: Estimate) -> None:
    now_s = time.monotonic()
    for ticket, outcome in delivery:
        future = future_of(ticket)
        if future.done():  # the client has left, or its deadline struck
            way_back.note(now_s - handed_s, now_s)  # too late for this one: those behind it shall know
            continue
        if isinstance(outcome, Passed):
            if ticket.passing is not None:
                ticket.passing(ticket.model, outcome.prediction)
        elif isinstance(outcome, LaunchError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
