"""How long a network takes, operator by operator in torch, against others in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from model_store.nets.staged import StagedNet


@dataclass(frozen=True)
class Latency:
    """Time of one network for one batch, through its last exit.

    Attributes:
        name: Of the network.
        median_s: Median time of a batch, seconds.
        low_s: First decile.
        high_s: Ninth decile.
        batch: Images.
        rounds: How often it was measured.
    """

    name: str
    median_s: float
    low_s: float
    high_s: float
    batch: int
    rounds: int


def measure_latencies(
    nets: Mapping[str, tuple[StagedNet, int]],
    batch: int,
    rounds: int,
    report: Callable[[int], None] = lambda done: None,
) -> list[Latency]:
    """Run the networks in turns, so that whatever else the machine does hits all of them alike.

    Args:
        nets: By name: the network, in evaluation mode, and the side of its images, pixels.
        batch: Images a run.
        rounds: Runs of each network after one to warm up; at least 2.
        report: Called with the rounds done.
    """
    images = {name: torch.rand(batch, 3, side, side) for name, (_, side) in nets.items()}
    seconds: dict[str, list[float]] = {name: [] for name in nets}
    with torch.inference_mode():
        for done in range(rounds + 1):
            for name, (net, _) in nets.items():
                started_s = time.perf_counter()
                net(images[name])
                seconds[name].append(time.perf_counter() - started_s)
            report(done)
    return [
        Latency(name, statistics.median(took), *_deciles(took), batch, rounds)
        for name, (_, *took) in seconds.items()
    ]


def _deciles(values: list[float]) -> tuple[float, float]:
    tenths = statistics.quantiles(values, n=10)
    return tenths[0], tenths[-1]
