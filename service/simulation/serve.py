"""Requests on their way through the simulated service: event loop, admission, worker, event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from model_store.manifest import Manifest
from service.engine.decide import Delivery
from service.engine.loaded import LoadedModel
from service.engine.queue import SpanQueues
from service.engine.scheduler import Pick, most_urgent
from service.engine.ticket import LaunchError, Prediction, Ticket
from service.engine.times import Estimate
from service.simulation.costs import Costs
from service.simulation.device import Times, VirtualExecutor, VirtualWorker, image_of
from service.simulation.known import KnownImages
from service.simulation.machine import Machine
from service.simulation.result import Outcome, Served, Status
from service.simulation.traffic import Arrival


@dataclass(frozen=True)
class Rules:
    """What is compared: settings of the service, and the two things that it has no settings for.

    Attributes:
        max_batch: Images per launch.
        max_wait_s: Longest wait for company, seconds.
        max_in_flight: Permits.
        objective_s: By when requests without a deadline should be answered, seconds.
        pick: Which of several due spans goes first.
        queues: Makes the queues.
    """

    max_batch: int = 16
    max_wait_s: float = 0.001
    max_in_flight: int = 512
    objective_s: float = 0.5
    pick: Pick = most_urgent
    queues: Callable[[], SpanQueues] = SpanQueues


class Service:
    """One process on one machine, without traffic.

    Attributes:
        machine: Its clock.
        model: Resolves budgets and keeps accounts.
        left: Requests that have left, in that order.
        on_leave: Called after each of them.
    """

    def __init__(
        self, manifest: Manifest, known: KnownImages, times: Times, costs: Costs, rules: Rules
    ) -> None:
        """Load the model that ``manifest`` describes."""
        self.machine = Machine(costs.cores)
        self._loop, self._client = self.machine.thread(), self.machine.thread()
        self._executor = VirtualExecutor(known.logits, times, costs, self.machine, self._loop)
        self.model = LoadedModel(manifest, self._executor)
        self._rules, self._costs = rules, costs
        self._way_back = Estimate()
        self._arrivals: dict[Ticket, Arrival] = {}
        self.left: list[Served] = []
        self.on_leave: Callable[[], None] = lambda: None
        self._in_flight, self._sending_s, self._shares = 0, 0.0, [0.0, 0.0]
        self._worker = VirtualWorker(
            self.machine,
            self._hand_over,
            max_batch=rules.max_batch,
            max_wait_s=rules.max_wait_s,
            objective_s=rules.objective_s,
            arriving=lambda: int(self._loop.is_at("receive")),
            pick=rules.pick,
            queues=rules.queues,
        )

    def send(self, arrival: Arrival) -> None:
        """Plan a request."""
        half_s, receive_s = self._costs.client_s / 2, self._costs.receive_s
        received = partial(self._loop.do, receive_s, partial(self._admit, arrival), "receive")
        self.machine.at(arrival.arrival_s, partial(self._client.do, half_s, received))

    def close(self) -> None:
        """No more requests arrive from now on: rates and shares are of the time until here."""
        self._sending_s = self.machine.now_s
        self._shares = [thread.working_s / self._sending_s for thread in (self._loop, self._executor.thread)]

    def run(self) -> Outcome:
        """Live through everything that is planned, ``close`` included."""
        self._worker.run()
        flops, run = self.model.span_flops, self._executor.images_run
        executed = sum(run(span, images) * flops(span) for span, images, _, _ in self._executor.launches)
        return Outcome(self.left, self._executor.launches, executed, self._sending_s, *self._shares)

    def _admit(self, arrival: Arrival) -> None:
        """On the event loop, once the image is decoded."""
        if self._in_flight >= self._rules.max_in_flight:
            self._respond(arrival, "refused")
            return
        self._in_flight += 1
        now_s = self.machine.now_s
        plan = self.model.plan(arrival.budget, arrival.limit, arrival.deadline_ms is None)
        due_s = now_s + self.model.patience_s(plan, self._rules.objective_s)
        ticket = Ticket(self.model, plan, image_of(arrival.row), now_s, None, due_s=due_s)
        ticket.ledger = self.model.ledger(plan)
        self._arrivals[ticket] = arrival
        if arrival.deadline_ms is not None:
            self._limit(ticket, now_s - self._costs.receive_s + arrival.deadline_ms / 1000)
        self._worker.submit([ticket])

    def _limit(self, ticket: Ticket, expires_s: float) -> None:
        """As ``Engine.submit`` and ``Submission`` treat a deadline."""
        now_s = self.machine.now_s
        ticket.expires_s = expires_s
        deadline_s = expires_s - min(self._way_back.bound_s(now_s), max(0.0, (expires_s - now_s) / 2))
        ticket.deadline_s, ticket.due_s = deadline_s, min(deadline_s, now_s + self._rules.objective_s)
        self.machine.at(deadline_s, partial(self._strike, ticket, last=False))
        self.machine.at(expires_s, partial(self._strike, ticket, last=True))

    def _strike(self, ticket: Ticket, last: bool) -> None:
        """A deadline: whoever has an answer in hand leaves with it, at the ``last`` one whoever has none."""
        if ticket in self._arrivals and (last or ticket.answer is not None):
            self._leave(ticket, ticket.answer)

    def _hand_over(self, delivery: Delivery) -> None:
        for ticket, outcome in delivery:
            if isinstance(outcome, LaunchError):
                raise outcome  # a fault of the simulation; as a result it would look like load
            if ticket in self._arrivals:
                self._leave(ticket, outcome if isinstance(outcome, Prediction) else None)

    def _leave(self, ticket: Ticket, answer: Prediction | None) -> None:
        ticket.cancelled = True
        decided_s = None if answer is None or self._too_late(ticket) else answer.decided_s
        self._respond(
            self._arrivals.pop(ticket), "expired" if answer is None else "answered", answer, decided_s
        )

    def _too_late(self, ticket: Ticket) -> bool:
        """Whether the deadline has struck: how long the answer was in hand says nothing of the way back."""
        return ticket.deadline_s is not None and self.machine.now_s >= ticket.deadline_s

    def _respond(
        self,
        arrival: Arrival,
        status: Status,
        answer: Prediction | None = None,
        decided_s: float | None = None,
    ) -> None:
        def written() -> None:
            self._in_flight -= status != "refused"
            if decided_s is not None:
                self._way_back.note(self.machine.now_s - decided_s, self.machine.now_s)
            self._client.do(self._costs.client_s / 2, read)

        def read() -> None:
            said = (-1, 0, 0) if answer is None else (answer.classes[0], answer.exit, answer.flops)
            self.left.append(Served(arrival, status, self.machine.now_s, *said))
            self.on_leave()

        self._loop.do(self._costs.respond_s, written)


def open_loop(service: Service, arrivals: Sequence[Arrival]) -> Outcome:
    """Requests that come whatever becomes of others; at least one after the first moment."""
    for arrival in arrivals:
        service.send(arrival)
    service.machine.at(max(arrival.arrival_s for arrival in arrivals), service.close)
    return service.run()


def closed_loop(service: Service, asked: Sequence[Arrival], connections: int) -> Outcome:
    """``connections`` users, fewer than there are requests, send ``asked`` in turn: the capacity."""
    waiting = iter(asked)

    def send_next() -> None:
        if (arrival := next(waiting, None)) is not None:
            service.send(arrival.model_copy(update={"arrival_s": service.machine.now_s}))
        elif not closed:
            closed.append(True)
            service.close()

    closed: list[bool] = []
    service.on_leave = send_next
    for _ in range(connections):
        send_next()
    return service.run()
