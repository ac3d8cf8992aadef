"""Published accuracy-FLOPs points that our curves are drawn beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """Where points were published: short name of the method, venue, full citation."""

    method: str
    venue: str
    citation: str


@dataclass(frozen=True)
class PublishedCurve:
    """Points of one method on one test set, single view.

    Where a paper only plots them they are digitised from its figures.

    Attributes:
        paper: Where they come from.
        budgeted: Budgeted batch classification; else anytime prediction.
        points: (mean FLOPs in millions, accuracy in percent), by rising FLOPs.
    """

    paper: Paper
    budgeted: bool
    points: tuple[tuple[float, float], ...]

    @property
    def label(self) -> str:
        """Method and venue, for a legend."""
        return f"{self.paper.method}, {self.paper.venue}"


MSDNET = Paper(
    "MSDNet",
    "ICLR 2018",
    "Huang et al., Multi-Scale Dense Networks for Resource Efficient Image Classification, arXiv:1703.09844",
)
RANET = Paper(
    "RANet",
    "CVPR 2020",
    "Yang et al., Resolution Adaptive Networks for Efficient Inference, arXiv:2003.07326",
)
L2W_DEN = Paper(
    "L2W-DEN",
    "ECCV 2022",
    "Han et al., Learning to Weight Samples for Dynamic Early-exiting Networks, arXiv:2209.08310",
)
BOOSTNET = Paper("BoostNet", "AAAI 2023", "Yu et al., Boosted Dynamic Neural Networks, arXiv:2211.16726")
FUSION = Paper(
    "fusion paper",
    "ICCVW 2023",
    "Addad, Lechervy, Jurie, Multi-Exit Resource-Efficient Neural Architecture for Image Classification with "
    "Optimized Fusion Block, HAL hal-04181149",
)
"""What its text claims for the network that ours rebuilds, at the last exit's FLOPs as we count them."""

PUBLISHED: Mapping[str, tuple[PublishedCurve, ...]] = {
    "cifar10": (
        PublishedCurve(MSDNET, True, ((20, 92.6), (25, 93.2), (30, 93.5), (40, 93.7))),
        PublishedCurve(RANET, True, ((15, 92.0), (20, 92.9), (25, 93.4), (30, 93.6), (40, 94.0))),
        PublishedCurve(L2W_DEN, True, ((15, 93.6), (20, 94.4), (25, 94.7), (30, 94.75), (40, 94.75))),
        PublishedCurve(FUSION, True, ((40, 94.0),)),
        PublishedCurve(MSDNET, False, ((15.1, 89.5), (25.5, 90.9), (52, 92.6), (74, 93.2), (122, 93.7))),
        PublishedCurve(RANET, False, ((15.8, 91.3), (44.7, 93.1), (94.9, 93.7))),
        PublishedCurve(FUSION, False, ((64.2, 94.1),)),
    ),
    "cifar100": (
        PublishedCurve(RANET, True, ((15, 69.2), (20, 71.0), (25, 71.9), (30, 73.2), (40, 74.3), (60, 75.5))),
        PublishedCurve(
            L2W_DEN, True, ((15, 70.4), (20, 72.3), (25, 73.4), (30, 74.0), (40, 74.3), (60, 75.7))
        ),
        PublishedCurve(BOOSTNET, True, ((20, 70.6), (25, 73.3), (30, 74.4), (40, 75.3))),
        PublishedCurve(FUSION, True, ((22.5, 74.01),)),  # "about 22-23 M"
        PublishedCurve(FUSION, False, ((64.3, 76.3),)),
    ),
}
"""By task; the figures are those that the project's networks.md, sections 1 and 2, lists."""

BUDGETS = (15e6, 20e6, 25e6, 30e6, 40e6, 60e6)
"""Mean budgets in FLOPs at which the budgeted curves are published."""
