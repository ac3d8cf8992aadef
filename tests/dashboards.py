"""The dashboard and the rules as the tests read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "exitramp.json"
RULE_FILES = [
    PROMETHEUS / name for name in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["rule_files"]
]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """All but the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries(model: str = "any", window: str = "1m") -> dict[str, str]:
    """Every query of the dashboard with its variables replaced, by panel and letter."""
    values = {"model": model, "route": ".*", "instance": ".*", "__rate_interval": window, "__range": window}
    return {
        f"{panel['title']}, {target['refId']}": re.sub(
            r"\$(\w+)", lambda found: values[found[1]], target["expr"]
        )
        for panel in panels()
        for target in panel["targets"]
    }


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def all_rules() -> list[dict[str, Any]]:
    return [rule for path in RULE_FILES for rule in rules(path)]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in all_rules() if "alert" in rule]


def operands(expression: str) -> list[str]:
    """What an alert compares and combines: all that must have data for it to be able to fire.

    An alert that does not fire gives nothing, and so does one that misspells a label. What stands between
    ``and``, ``or``, ``unless`` and comparisons outside all brackets tells them apart. The content of
    ``absent()`` must be there for it to be silent.
    """
    masked, depth = [], 0
    for piece in re.findall(r'"[^"]*"|.', expression, flags=re.DOTALL):
        depth -= piece in ")]}"
        masked.append("_" * len(piece) if depth else piece)
        depth += piece in "([{"
    between = r"\b(?:and|or|unless)\b(?:\s+(?:on|ignoring)\s*\(_*\))?|[=!<>]=|<|>"
    found, start = [], 0
    for operator in re.finditer(between, "".join(masked)):
        found.append(expression[start : operator.start()])
        start = operator.end()
    pieces = [piece.strip() for piece in [*found, expression[start:]]]
    return [re.sub(r"^absent\((.*)\)$", r"\1", piece, flags=re.DOTALL) for piece in pieces]
