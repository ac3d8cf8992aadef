"""A policy whose truth is known: confidences are uniform at every exit."""

from __future__ import annotations

from model_store.flops import StageFlops, direct_flops
from model_store.policy import Policy, PolicyEntry, PolicySegment, path_flops

STAGES = (StageFlops(14, 1), StageFlops(9, 1), StageFlops(9, 1), StageFlops(9, 1))
DIRECT = direct_flops(STAGES)  # 15, 24, 33, 42


def uniform_policy(exits: tuple[int, ...] = (1, 2, 4)) -> Policy:
    """Calibrated for images whose confidence is uniform at every exit: threshold = share that goes on."""
    costs = path_flops(STAGES, [k - 1 for k in exits])
    entries = []
    for i in range(101):
        go = i / 100
        reach = [go**k for k in range(len(exits))]
        shares = [a - b for a, b in zip(reach, [*reach[1:], 0], strict=True)]
        mean = sum(share * cost for share, cost in zip(shares, costs, strict=True))
        thresholds = (go,) * (len(exits) - 1)
        entries.append(PolicyEntry(mean_flops=mean, accuracy=go, thresholds=thresholds, shares=tuple(shares)))
    segment = PolicySegment(exits=exits, entries=tuple(entries))
    return Policy(confidence="probability", default_flops=20, segments=(segment,))
