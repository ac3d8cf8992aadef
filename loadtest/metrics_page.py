"""The service's own account of what it did: its ``/metrics``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from loadtest.errors import LoadTestError

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """All samples of one moment, by name and labels."""

    samples: dict[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """Sum over the samples called ``name`` that have these labels; 0 without any."""
        return sum(
            value
            for (sample, own), value in self.samples.items()
            if sample == name and own >= set(labels.items())
        )

    def by(self, label: str, name: str, **labels: str) -> Counter[str]:
        """The same, for each value of ``label``."""
        found: Counter[str] = Counter()
        for (sample, own), value in self.samples.items():
            if sample == name and own >= set(labels.items()):
                found[dict(own)[label]] += int(value)
        return found

    def since(self, before: Page) -> Page:
        """What was added since ``before``; meaningful for counters."""
        grown = {key: value - before.samples.get(key, 0.0) for key, value in self.samples.items()}
        return Page({key: value for key, value in grown.items() if value})


def parse_page(text: str) -> Page:
    """Read the Prometheus text format."""
    return Page(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


async def read_page(session: aiohttp.ClientSession) -> Page:
    """Ask for the page.

    Raises:
        LoadTestError: There is none.
    """
    async with session.get("metrics") as answer:
        text = await answer.text()
    try:
        page = parse_page(text)
    except ValueError:
        page = Page({})
    if answer.status != 200 or not page.samples:
        raise LoadTestError(f"{answer.url}: status {answer.status} and no metrics; is this exitramp?")
    return page
