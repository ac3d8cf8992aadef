"""What the dashboard's queries are answered by a Prometheus."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 180
"""Points over the time shown."""


class Unanswered(Exception):
    """Nobody answers, or not as a Prometheus does, or it refuses a query."""


@dataclass(frozen=True)
class Series:
    """One line of a panel: its legend, times in seconds since 1970, values, all of them numbers, labels."""

    name: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A Prometheus, the time to show, and what the dashboard's variables stand for."""

    url: str
    end_s: float
    seconds: float
    variables: dict[str, str]

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of Prometheus' HTTP API.

        Raises:
            Unanswered: there is no such answer.
        """
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the operator names it
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Unanswered(f"{self.url} refuses {path} {parameters}: {error}") from error
        except (OSError, HTTPException, ValueError, TypeError, KeyError) as error:
            raise Unanswered(f"no Prometheus at {self.url}: {getattr(error, 'reason', error)}") from error

    def series(self, target: dict[str, Any]) -> list[Series]:
        """What a panel's target shows; a series without a number, such as a quantile of nothing, is none."""
        query = re.sub(r"\$(\w+)", lambda found: self.variables[found[1]], target["expr"])
        if target.get("instant"):
            result = self.ask("query", query=query, time=str(self.end_s))["result"]
            pairs = [(one["metric"], [one["value"]]) for one in result]
        else:
            span = {"start": str(self.end_s - self.seconds), "end": str(self.end_s)}
            step = str(max(1.0, self.seconds / POINTS))
            result = self.ask("query_range", query=query, step=step, **span)["result"]
            pairs = [(one["metric"], one["values"]) for one in result]
        found = []
        for labels, samples in pairs:
            times, values = np.array(samples, dtype=np.float64).T
            finite = np.isfinite(values)
            if finite.any():
                name = legend(target.get("legendFormat", ""), labels)
                found.append(Series(name, times[finite], values[finite], labels))
        return sorted(found, key=lambda one: sort_key(one.name))


def legend(wanted: str, labels: dict[str, str]) -> str:
    """A series' name: the labels in ``{{ }}``, or without a format all of them."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), wanted) or "  ".join(labels.values())


def sort_key(name: str) -> list[tuple[float, str]]:
    """Numbers in names by value: exit 2 before exit 10, and +Inf last."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e\+?\d+)?|\+Inf)", name)
    return [(float(part), "") if number % 2 else (-1.0, part) for number, part in enumerate(parts)]


def chosen(url: str, dashboard: dict[str, Any], seconds: float, given: Sequence[str]) -> dict[str, str]:
    """What each variable stands for: as given, all, or the first of its values."""
    interval_s = max(15, round(4 * seconds / POINTS))  # as Grafana: at least four scrapes
    variables = {"__rate_interval": f"{interval_s}s", "__range": f"{round(seconds)}s"}
    for variable in dashboard["templating"]["list"]:
        metric, label = re.findall(r"label_values\((.+), (\w+)\)", variable["query"]["query"])[0]
        values = Source(url, 0, 0, {}).ask(f"label/{label}/values", **{"match[]": metric})
        variables[variable["name"]] = variable.get("allValue") or (values or ["none"])[0]
    return variables | dict(pair.split("=", 1) for pair in given)
