"""Draw every panel of the dashboard from what a Prometheus answers, without Grafana: a picture to look at.

    .venv/bin/python -m deploy.grafana.render --minutes 15 --out /tmp/exitramp-dashboard.png
    ... --prometheus http://127.0.0.1:9090
    ... --variable model=cifar100-fusion

Layout, queries, units, stacking, limits and legends are the dashboard's own; colours and fonts are not
Grafana's. Times are UTC. Names the panels that are empty.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from deploy.grafana.answers import Source, Unanswered, chosen
from deploy.grafana.drawing import DRAW, SHOW_TIMES_OF, show_times

DASHBOARD = Path(__file__).parent / "dashboards" / "exitramp.json"

COLUMNS = 24
"""Width of Grafana's grid."""

CELL = (0.5, 0.27)
"""Width and height of a cell of the grid, inches."""


def render(dashboard: dict[str, Any], source: Source, out: Path) -> list[str]:
    """Write the picture; returns the titles of the panels that Prometheus has nothing for."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = Figure(figsize=(COLUMNS * CELL[0], rows * CELL[1]), dpi=95, facecolor="white")
    empty = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        title = panel["title"].replace("$model", source.variables["model"])
        left, top = place["x"] / COLUMNS, 1 - place["y"] / rows
        if panel["type"] == "row":
            figure.text(left + 0.004, top - 0.8 / rows, title, size=11, weight="bold")
            continue
        box = (
            left + 0.045,
            top - (place["h"] - 1.0) / rows,
            place["w"] / COLUMNS - 0.055,
            (place["h"] - 2.2) / rows,
        )
        figure.text(left + 0.006, top - 0.85 / rows, title, size=7.5)
        axes = figure.add_axes(box)
        axes.tick_params(labelsize=5.5, length=2)
        axes.spines[["top", "right"]].set_visible(False)
        shown = [one for target in panel["targets"] for one in source.series(target)]
        if shown:
            DRAW[panel["type"]](axes, panel, shown)
            if panel["type"] in SHOW_TIMES_OF:
                show_times(axes, source.end_s - source.seconds, source.end_s)
        else:
            empty.append(title)
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no data", size=8, color="#767d86", ha="center")
    drawn = BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(96).save(out, "PNG", optimize=True)  # a third of the bytes
    return empty


def command_line() -> argparse.Namespace:
    """What is asked for; ends the process, before anybody is asked, if it cannot be drawn or written."""
    parser = argparse.ArgumentParser(
        prog="deploy.grafana.render",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--dashboard", type=Path, default=DASHBOARD)
    parser.add_argument("--minutes", type=float, default=30, help="how far back")
    parser.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="PNG")
    options = parser.parse_args()
    out: Path = options.out
    if not 0 < options.minutes < inf:
        parser.exit(2, f"{parser.prog}: --minutes {options.minutes:g}: needs more than 0\n")
    if unnamed := [pair for pair in options.variable if "=" not in pair]:
        parser.exit(2, f"{parser.prog}: --variable {unnamed[0]}: needs NAME=VALUE\n")
    if out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        parser.exit(2, f"{parser.prog}: --out {out}: no such folder, or no file that can be written\n")
    return options


def main() -> int:
    """Ask, draw, and name what is empty; whatever prevents it is one line."""
    options = command_line()
    try:
        dashboard = json.loads(options.dashboard.read_text())
        seconds = 60 * options.minutes
        variables = chosen(options.prometheus, dashboard, seconds, options.variable)
        empty = render(dashboard, Source(options.prometheus, time.time(), seconds, variables), options.out)
    except (Unanswered, json.JSONDecodeError, OSError) as error:
        sys.stderr.write(f"deploy.grafana.render: {error}\n")
        return 1
    sys.stdout.write("".join(f"no data: {title}\n" for title in empty))
    return 0


if __name__ == "__main__":
    sys.exit(main())
