"""Draw one panel of the dashboard with matplotlib: curves, areas, heat maps, numbers, bars, tables."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from deploy.grafana.answers import Series

COLOURS = (
    *("#3274d9", "#e0752d", "#56a64b", "#a352cc", "#e02f44", "#37a2b4", "#b5830f", "#8f3bb8", "#767d86"),
    *("#8ab8ff", "#ffb357", "#96d98d", "#deb6f2", "#ff9aa6", "#7fd6e3", "#1f3b70", "#2d5a27", "#5c1f27"),
)

TIME_STEPS_S = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800)
TIME_MARKS = 6
"""At most so many below a panel."""

LEGEND_LINE = 0.115
LEGEND_BELOW = 0.27
"""Height of a line, and how far below the panel the last one ends, inches."""

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


def show_times(axes: Axes, start_s: float, end_s: float) -> None:
    """The same time below every panel, whenever its series begin; seconds or days where marks need them."""
    step_s = next((step for step in TIME_STEPS_S if (end_s - start_s) / step <= TIME_MARKS), TIME_STEPS_S[-1])
    clock = "" if step_s >= 86400 else "%H:%M" if step_s >= 60 else "%H:%M:%S"
    form = f"%d %b {clock}".strip() if end_s - start_s > 86400 else clock
    axes.set_xlim(start_s, end_s)
    axes.xaxis.set_major_locator(MultipleLocator(step_s))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: time.strftime(form, time.gmtime(at))))


def put_legend_below(axes: Axes) -> None:
    """Where no curve runs: the panel gives up the height of the legend's lines."""
    handles, names = axes.get_legend_handles_labels()
    figure, box = axes.get_figure(root=True), axes.get_position()
    assert figure is not None
    width, height = figure.get_size_inches()
    columns = max(1, int(box.width * width / (0.35 + 0.048 * max(map(len, names)))))
    lift = LEGEND_LINE * ceil(len(names) / columns) / height
    axes.set_position((box.x0, box.y0 + lift, box.width, box.height - lift))
    axes.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(box.x0, box.y0 - LEGEND_BELOW / height),
        bbox_transform=figure.transFigure,
        ncols=columns,
        fontsize=5.5,
        frameon=False,
        borderaxespad=0,
        borderpad=0,
        labelspacing=0.3,
        columnspacing=1.2,
        handlelength=1.4,
    )


def with_gaps(one: Series, longest_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and values with a break where nothing was measured for longer than a curve may span."""
    gaps = np.flatnonzero(np.diff(one.times) > longest_s) + 1
    return np.insert(one.times, gaps, np.nan), np.insert(one.values, gaps, np.nan)


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
            times, values = with_gaps(one, custom["spanNulls"] / 1000)
            axes.plot(times, values, line, label=one.name, color=colour, linewidth=1.0)
    low, high = axes.get_ylim()
    low, high = field.get("min", low), max(field.get("max", high), high if "max" not in field else 0)
    axes.set_ylim(low, high if high > low else low + 1)
    if "thresholdsStyle" in custom:
        for step in field["thresholds"]["steps"][1:]:
            if low <= step["value"] <= high:
                axes.axhline(step["value"], color=step["color"], linewidth=0.9, linestyle=":")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formatter(field["unit"])(value)))
    axes.grid(color="#e4e7ea", linewidth=0.5)
    put_legend_below(axes)


def draw_heatmap(axes: Axes, panel: Panel, shown: list[Series]) -> None:
    """Time by bucket; what a bucket holds beyond the one below it is the colour."""
    times = np.unique(np.concatenate([one.times for one in shown]))
    totals = np.array([np.interp(times, one.times, one.values) for one in shown])
    counts = np.diff(totals, axis=0, prepend=0).clip(min=0)
    used = np.flatnonzero(counts.sum(axis=1))
    # Two rows at least: one alone has no height.
    first, last = (used[0], max(used[-1] + 1, used[0] + 2)) if len(used) else (0, len(shown))
    axes.pcolormesh(times, range(last - first), counts[first:last] ** 0.5, cmap="Blues", shading="nearest")
    write = formatter(panel["options"]["yAxis"]["unit"])
    names = [write(float(one.name)) if one.name != "+Inf" else "more" for one in shown[first:last]]
    axes.set_yticks(range(last - first), names)


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
    size = 6.5 if len(shown) <= 5 else 5
    for row, (one, value) in enumerate(zip(shown, values, strict=True)):
        axes.text(0, row - 0.27, f"{one.name}  {formatter(field['unit'])(value)}", size=size, va="bottom")
    axes.set_xlim(field["min"], field.get("max"))
    axes.set_ylim(len(shown) - 0.6, -0.8)  # the first on top
    axes.set_xticks([])
    axes.set_yticks([])


def draw_table(axes: Axes, panel: Panel, shown: list[Series]) -> None:
    """The labels of each series below their names, in the order that the panel states."""
    axes.set_axis_off()
    (order,) = [one["options"]["indexByName"] for one in panel["transformations"] if one["id"] == "organize"]
    names = sorted(order, key=lambda name: int(order[name]))
    rows = [names, *([one.labels.get(name, "") for name in names] for one in shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
    for number, line in enumerate(lines):
        weight = "normal" if number else "bold"
        axes.text(0, 0.95 - 0.1 * number, line, size=6, va="top", family="monospace", weight=weight)


DRAW: dict[str, Callable[[Axes, Panel, list[Series]], None]] = {
    "timeseries": draw_timeseries,
    "heatmap": draw_heatmap,
    "stat": draw_stat,
    "bargauge": draw_bars,
    "table": draw_table,
}

SHOW_TIMES_OF = ("timeseries", "heatmap")
"""Panels whose abscissa is time."""
