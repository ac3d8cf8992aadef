"""Machines for a load: by simulation, the highest rate at which one machine holds the latency asked."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from model_store.manifest import Manifest
from model_store.policy import make_plan
from service.simulation.costs import Costs
from service.simulation.device import Times
from service.simulation.known import drawn_images
from service.simulation.result import Outcome
from service.simulation.serve import Rules, Service, closed_loop, open_loop
from service.simulation.traffic import Arrival, poisson

CONNECTIONS = 32
"""Users of the closed loop that gives the throughput, as ``exitramp bench`` has them."""

REQUESTS = 3000
"""Of one simulation: its p99 is exceeded by 30."""

IDLE, MOST = 0.02, 1.1
"""Rates that are looked at, shares of the throughput: requests hardly ever meet, and nobody keeps up."""

STEPS = 5
"""Halvings of what is between them."""

HOUR_S = 3600


class ImpossibleError(Exception):
    """No number of machines does it; the message says what is the least."""


@dataclass(frozen=True)
class Sized:
    """What a load under a budget needs.

    Attributes:
        load: Requests a second.
        budget: Mean FLOPs per image that was asked, or ``None`` for the policy's default.
        accuracy: That the calibration promises.
        capacity: Answers a second of one machine, with users who never pause.
        rate: Highest requests a second at which one machine holds the p99 that is asked.
        machines: That are needed, spare ones included.
        utilisation: Share of the capacity that the load takes, spread over all machines.
        p50_ms: Latency likewise.
        p99_ms: Latency likewise.
        mean_batch: Images in a launch of the first span, likewise.
        per_million: Price of a million images, spare machines included; ``None`` without a price.
    """

    load: float
    budget: float | None
    accuracy: float
    capacity: float
    rate: float
    machines: int
    utilisation: float
    p50_ms: float
    p99_ms: float
    mean_batch: float
    per_million: float | None


class Sizing:
    """One model on one kind of machine under one budget."""

    def __init__(
        self, manifest: Manifest, times: Times, costs: Costs, budget: float | None, rules: Rules | None = None
    ) -> None:
        """Simulate what one machine can do.

        Raises:
            UnaffordableError: The budget is below the cheapest exit.
        """
        plan = make_plan(manifest.policy, manifest.stages, budget, None)
        self._known = drawn_images(plan, len(manifest.stages), len(manifest.classes))
        self._manifest, self._times, self._costs, self._rules = manifest, times, costs, rules or Rules()
        self._asked = [Arrival(arrival_s=0, row=0, budget=budget)]
        self._budget = budget
        self.accuracy = self._service().model.expected_accuracy(plan)
        users = poisson(1.0, REQUESTS, len(self._known), asked=self._asked)
        self.capacity = closed_loop(self._service(), users, CONNECTIONS).throughput

    def at(self, rate: float) -> Outcome:
        """One machine under ``rate`` requests a second at random times."""
        return open_loop(self._service(), poisson(rate, REQUESTS, len(self._known), asked=self._asked))

    def rate_for(self, p99_ms: float) -> float:
        """The highest rate, within a few per cent of the capacity, at which 99 % take at most ``p99_ms``.

        Raises:
            ImpossibleError: Not even an idle machine does.
        """
        least_s = self.at(IDLE * self.capacity).latency_s(0.99)
        if least_s * 1000 > p99_ms:
            raise ImpossibleError(
                f"a p99 of {p99_ms:g} ms cannot be held: on an idle machine it is {least_s * 1000:.1f} ms"
            )
        low, high = IDLE * self.capacity, MOST * self.capacity
        for _ in range(STEPS):
            middle = (low + high) / 2
            outcome = self.at(middle)
            refused = len(outcome.served) - len(outcome.answered)
            if not refused and outcome.latency_s(0.99) * 1000 <= p99_ms:
                low = middle
            else:
                high = middle
        return low

    def size(self, load: float, rate: float, spare: int = 0, price: float | None = None) -> Sized:
        """Machines for ``load`` requests a second.

        Args:
            load: Of all machines together.
            rate: Of one machine at most, from ``rate_for``.
            spare: Machines that may be missing.
            price: Of a machine for an hour.
        """
        machines = ceil(load / rate) + spare
        outcome = self.at(load / machines)
        batches = outcome.mean_batches()
        return Sized(
            load=load,
            budget=self._budget,
            accuracy=self.accuracy,
            capacity=self.capacity,
            rate=rate,
            machines=machines,
            utilisation=load / machines / self.capacity,
            p50_ms=outcome.latency_s(0.5) * 1000,
            p99_ms=outcome.latency_s(0.99) * 1000,
            mean_batch=batches[min(batches)],
            per_million=None if price is None else per_million(price, machines, load),
        )

    def _service(self) -> Service:
        return Service(self._manifest, self._known, self._times, self._costs, self._rules)


def per_million(price: float, machines: int, load: float) -> float:
    """Price of a million images where ``machines`` at ``price`` an hour answer ``load`` a second."""
    return price * machines / (load * HOUR_S) * 1e6
