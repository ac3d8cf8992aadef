"""Published accuracy-FLOPs points that our curves are drawn beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedCurve:
    """Points of one method on one test set, single view.

    Where a paper only plots them they are digitised from its figures.

    Attributes:
        method: Name of the method.
        budgeted: Budgeted batch classification; else anytime prediction.
        points: (mean FLOPs in millions, accuracy in percent), by rising FLOPs.
        source: Where it was published.
    """

    method: str
    budgeted: bool
    points: tuple[tuple[float, float], ...]
    source: str


MSDNET = "Huang et al., Multi-Scale Dense Networks, ICLR 2018, arXiv:1703.09844"
RANET = "Yang et al., Resolution Adaptive Networks, CVPR 2020, arXiv:2003.07326"
L2W_DEN = "Han et al., Learning to Weight Samples for Dynamic Early-exiting, ECCV 2022, arXiv:2209.08310"
BOOSTNET = "Yu et al., Boosted Dynamic Neural Networks, AAAI 2023, arXiv:2211.16726"

PUBLISHED: Mapping[str, tuple[PublishedCurve, ...]] = {
    "cifar10": (
        PublishedCurve("MSDNet", True, ((20, 92.6), (25, 93.2), (30, 93.5), (40, 93.7)), MSDNET),
        PublishedCurve("RANet", True, ((15, 92.0), (20, 92.9), (25, 93.4), (30, 93.6), (40, 94.0)), RANET),
        PublishedCurve(
            "L2W-DEN", True, ((15, 93.6), (20, 94.4), (25, 94.7), (30, 94.75), (40, 94.75)), L2W_DEN
        ),
        PublishedCurve(
            "MSDNet", False, ((15.1, 89.5), (25.5, 90.9), (52, 92.6), (74, 93.2), (122, 93.7)), MSDNET
        ),
        PublishedCurve("RANet", False, ((15.8, 91.3), (44.7, 93.1), (94.9, 93.7)), RANET),
    ),
    "cifar100": (
        PublishedCurve(
            "RANet", True, ((15, 69.2), (20, 71.0), (25, 71.9), (30, 73.2), (40, 74.3), (60, 75.5)), RANET
        ),
        PublishedCurve(
            "L2W-DEN", True, ((15, 70.4), (20, 72.3), (25, 73.4), (30, 74.0), (40, 74.3), (60, 75.7)), L2W_DEN
        ),
        PublishedCurve("BoostNet", True, ((20, 70.6), (25, 73.3), (30, 74.4), (40, 75.3)), BOOSTNET),
    ),
}
"""By task; the figures are those that the project's networks.md, section 2, lists."""
