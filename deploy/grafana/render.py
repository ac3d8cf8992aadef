"""Draw every panel of the dashboard from what a Prometheus answers, without Grafana: a picture to look at.

    python -m deploy.grafana.render --prometheus http://127.0.0.1:9090 --minutes 15 --out dashboard.png
    ... --variable model=cifar100-fusion

Layout, queries, units, stacking, limits and legends are the dashboard's own; colours and fonts are not
Grafana's. Times are UTC. Names the panels that are empty.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator
from PIL import Image

from deploy.grafana.answers import Series, Source, chosen

DASHBOARD = Path(__file__).parent / "dashboards" / "exitramp.json"

COLUMNS = 24
"""Width of Grafana's grid."""

CELL = (0.5, 0.27)
"""Width and height of a cell of the grid, inches."""

COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#a352cc", "#e02f44", "#37a2b4", "#b5830f", "#8f3bb8", "#767d86")

SUFFIXES = {"s": "s", "bytes": "B", "flops": "FLOP/s", "reqps": "/s", "ops": "/s"}

Panel = dict[str, Any]


def formatter(unit: str) -> Callable[[float], str]:
    """How a panel's unit writes a number."""
    if unit == "percentunit":
        return lambda value: f"{100 * value:.4g} %"
    suffix = SUFFIXES.get(unit, "")
    if unit == "none" or suffix == "/s":
        return lambda value: f"{value:.4g}{suffix}"
    engineering = EngFormatter(suffix, sep=" " if suffix else "")
    return lambda value: engineering.format_data(float(f"{value:.3g}"))


def defaults(panel: Panel) -> dict[str, Any]:
    """A panel's field settings."""
    return dict(panel["fieldConfig"]["defaults"])


def is_dashed(panel: Panel, name: str) -> bool:
    """Whether an override dashes the line of that name."""
    overrides = panel["fieldConfig"]["overrides"]
    dashed = [one for one in overrides if any(p["id"] == "custom.lineStyle" for p in one["properties"])]
    return any(re.fullmatch(one["matcher"]["options"], name) for one in dashed)


def label_times(axes: Axes) -> None:
    """Hours and minutes below a panel."""
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: time.strftime("%H:%M", time.gmtime(at))))


def draw_timeseries(axes: Axes, panel: Panel, shown: list[Series]) -> None:
    """Lines, or stacked areas, with the limits of the thresholds."""
    field = defaults(panel)
    custom = field["custom"]
    if "stacking" in custom:
        times = np.unique(np.concatenate([one.times for one in shown]))
        rows = [np.interp(times, one.times, one.values, left=0, right=0) for one in shown]
        axes.stackplot(
            times, rows, labels=[one.name for one in shown], colors=COLOURS, alpha=0.75, linewidth=0
        )
    else:
        for number, one in enumerate(shown):
            line, colour = "--" if is_dashed(panel, one.name) else "-", COLOURS[number % len(COLOURS)]
            axes.plot(one.times, one.values, line, label=one.name, color=colour, linewidth=1.0)
    low, high = axes.get_ylim()
    low, high = field.get("min", low), max(field.get("max", high), high if "max" not in field else 0)
    axes.set_ylim(low, high if high > low else low + 1)
    if "thresholdsStyle" in custom:
        for step in field["thresholds"]["steps"][1:]:
            if low <= step["value"] <= high:
                axes.axhline(step["value"], color=step["color"], linewidth=0.9, linestyle=":")
    label_times(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formatter(field["unit"])(value)))
    axes.grid(color="#e4e7ea", linewidth=0.5)
    axes.legend(loc="best", fontsize=5.5, ncols=2 if len(shown) > 3 else 1, framealpha=0.7, borderpad=0.3)


def draw_heatmap(axes: Axes, panel: Panel, shown: list[Series]) -> None:
    """Time by bucket; what a bucket holds beyond the one below it is the colour."""
    times = np.unique(np.concatenate([one.times for one in shown]))
    totals = np.array([np.interp(times, one.times, one.values) for one in shown])
    counts = np.diff(totals, axis=0, prepend=0).clip(min=0)
    used = np.flatnonzero(counts.sum(axis=1))
    first, last = (used[0], used[-1] + 1) if len(used) else (0, len(shown))
    axes.pcolormesh(times, range(last - first), counts[first:last] ** 0.5, cmap="Blues", shading="nearest")
    write = formatter(panel["options"]["yAxis"]["unit"])
    names = [write(float(one.name)) if one.name != "+Inf" else "more" for one in shown[first:last]]
    axes.set_yticks(range(last - first), names)
    label_times(axes)


def colour_at(panel: Panel, value: float) -> str:
    """The colour of the highest threshold that a value has reached."""
    steps = defaults(panel)["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return {"green": "#56a64b", "red": "#e02f44", "orange": "#ff9830", "blue": "#3274d9"}[reached[-1]]


def draw_stat(axes: Axes, panel: Panel, shown: list[Series]) -> None:
    """The last value of each series, large."""
    axes.set_axis_off()
    write = formatter(defaults(panel)["unit"])
    for number, one in enumerate(shown):
        value, middle = float(one.values[-1]), 1 - (number + 0.5) / len(shown)
        text = f"{one.name}  {write(value)}" if len(shown) > 1 else write(value)
        size = 15 if len(shown) == 1 else 8
        axes.text(
            0.5,
            middle,
            text,
            size=size,
            weight="bold",
            color=colour_at(panel, value),
            ha="center",
            va="center",
        )


def draw_bars(axes: Axes, panel: Panel, shown: list[Series]) -> None:
    """The last value of each series as a bar."""
    field = defaults(panel)
    values = [float(one.values[-1]) for one in shown]
    axes.barh(range(len(shown)), values, color=[colour_at(panel, value) for value in values], height=0.5)
    for row, (one, value) in enumerate(zip(shown, values, strict=True)):
        axes.text(0, row - 0.27, f"{one.name}  {formatter(field['unit'])(value)}", size=6.5, va="bottom")
    axes.set_xlim(field["min"], field.get("max"))
    axes.set_ylim(len(shown) - 0.6, -0.8)  # the first on top
    axes.set_xticks([])
    axes.set_yticks([])


def draw_table(axes: Axes, panel: Panel, shown: list[Series]) -> None:
    """The labels of each series."""
    axes.set_axis_off()
    axes.text(0, 0.95, "\n".join(one.name for one in shown), size=6, va="top", family="monospace")


DRAW: dict[str, Callable[[Axes, Panel, list[Series]], None]] = {
    "timeseries": draw_timeseries,
    "heatmap": draw_heatmap,
    "stat": draw_stat,
    "bargauge": draw_bars,
    "table": draw_table,
}


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
        else:
            empty.append(title)
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no data", size=8, color="#767d86", ha="center")
    drawn = BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(96).save(out, optimize=True)  # a third of the bytes
    return empty


def main() -> int:
    """Parse the command line, ask, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--dashboard", type=Path, default=DASHBOARD)
    parser.add_argument("--minutes", type=float, default=30, help="how far back")
    parser.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="PNG")
    options = parser.parse_args()
    dashboard = json.loads(options.dashboard.read_text())
    seconds = 60 * options.minutes
    variables = chosen(options.prometheus, dashboard, seconds, options.variable)
    empty = render(dashboard, Source(options.prometheus, time.time(), seconds, variables), options.out)
    sys.stdout.write("".join(f"no data: {title}\n" for title in empty))
    return 0


if __name__ == "__main__":
    sys.exit(main())
