"""What became of simulated requests, and the figures that are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

from model_store.nets.staged import Span
from service.simulation.device import LaunchRecord
from service.simulation.traffic import Arrival

Status = Literal["answered", "expired", "refused"]


@dataclass(frozen=True, slots=True)
class Served:
    """One request that has left.

    Attributes:
        arrival: What was asked, and when.
        status: What became of it.
        done_s: When its answer was with the client, virtual seconds.
        index: The class that was answered; -1 without an answer.
        exit: The exit that answered, 1-based; 0 without an answer.
        flops: FLOPs charged.
    """

    arrival: Arrival
    status: Status
    done_s: float
    index: int = -1
    exit: int = 0
    flops: int = 0

    @property
    def seconds(self) -> float:
        """From its arrival to the answer."""
        return self.done_s - self.arrival.arrival_s

    @property
    def met(self) -> bool:
        """Whether its deadline, if it had one, was met."""
        deadline_ms = self.arrival.deadline_ms
        return self.status == "answered" and (deadline_ms is None or self.seconds <= deadline_ms / 1000)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One simulation.

    Attributes:
        served: In the order in which they left.
        launches: In their order.
        executed_flops: Of all launches.
        sending_s: Time in which requests arrived, seconds.
        loop_share: Share of that time in which the event loop had something to do.
        device_share: Likewise the device.
    """

    served: Sequence[Served]
    launches: Sequence[LaunchRecord]
    executed_flops: int
    sending_s: float
    loop_share: float
    device_share: float

    @property
    def answered(self) -> list[Served]:
        """Those with a prediction."""
        return [one for one in self.served if one.status == "answered"]

    @property
    def throughput(self) -> float:
        """Answers a second while requests arrived."""
        in_time = sum(one.done_s <= self.sending_s for one in self.answered)
        return in_time / self.sending_s if self.sending_s else 0.0

    def latency_s(self, share: float) -> float:
        """The latency that ``share`` of the answers did not exceed, nearest rank; ``inf`` without answers."""
        ordered = sorted(one.seconds for one in self.answered)
        return ordered[max(1, ceil(round(share * len(ordered), 9))) - 1] if ordered else inf

    @property
    def met(self) -> float:
        """Share of the requests with a deadline that met it; 1 where none has one."""
        asked = [one for one in self.served if one.arrival.deadline_ms is not None]
        return sum(one.met for one in asked) / len(asked) if asked else 1.0

    @property
    def executed_over_charged(self) -> float:
        """FLOPs that ran over those that answers were charged."""
        charged = sum(one.flops for one in self.served)
        return self.executed_flops / charged if charged else inf

    def mean_batches(self) -> dict[Span, float]:
        """Images a launch, by span."""
        sizes: dict[Span, list[int]] = defaultdict(list)
        for launch in self.launches:
            sizes[launch.span].append(launch.images)
        return {span: sum(found) / len(found) for span, found in sorted(sizes.items())}
