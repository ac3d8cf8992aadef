"""A report for people: the figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.report import Report, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7a5195", "#b8860b", "#4c4c4c")

Value = Callable[[Row], float | None]


def draw(report: Report, path: Path) -> None:
    """Write the figure there, PNG."""
    figure_of(report).savefig(path)


def figure_of(report: Report) -> Figure:
    """Accuracy, errors, latency, FLOPs and throughput against the offered load, a colour for each budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 10.6), dpi=150, facecolor="white", layout="constrained")
    first = "accuracy" if any(row.accuracy is not None for row in report.rows) else "errors"
    panels = figure.subplot_mosaic([[first, "errors"], ["latency", "p95"], ["flops", "throughput"]])
    if first == "accuracy":
        _accuracy(panels["accuracy"], report)
    _errors(panels["errors"], report)
    panels["p95"].sharey(panels["latency"])
    _latency(panels["latency"], report, {"p99": "o-", "p50": "o:"}, "p99, p50 dotted")
    _latency(panels["p95"], report, {"p95": "o-"}, "p95")
    _flops(panels["flops"], report)
    _throughput(panels["throughput"], report)
    for axes in panels.values():
        axes.set_xlabel("offered, requests a second")
        axes.set_xlim(left=0)
        axes.grid(color="#e4e7ea", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels["flops"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(f"{report.model} under open-loop load", x=0.01, ha="left", fontsize=11)
    return figure


def _accuracy(axes: Axes, report: Report) -> None:
    axes.set_title("accuracy of the answers, %, with its 95 % interval", loc="left", fontsize=9)
    for number, (_, rows) in enumerate(_opened(report)):
        judged = [
            (row.rate, row.accuracy, row.accuracy_95)
            for row in rows
            if row.accuracy is not None and row.accuracy_95 is not None
        ]
        middle = [100 * share for _, share, _ in judged]
        below = [100 * (share - low) for _, share, (low, _) in judged]
        above = [100 * (high - share) for _, share, (_, high) in judged]
        rates = [rate or 0.0 for rate, _, _ in judged]
        axes.errorbar(rates, middle, [below, above], color=_colour(number), fmt="o-", ms=4, capsize=2, lw=1.4)


def _errors(axes: Axes, report: Report) -> None:
    axes.set_title("requests without a prediction, %", loc="left", fontsize=9)
    _lines(axes, report, lambda row: 100 * row.errors, "o-")
    axes.set_ylim(bottom=0, top=max(1.0, axes.get_ylim()[1]))  # one in a thousand looks like few


def _latency(axes: Axes, report: Report, styles: Mapping[str, str], told: str) -> None:
    axes.set_title(f"latency from the intended start, ms: {told}", loc="left", fontsize=9)
    for name, style in styles.items():
        _lines(axes, report, partial(_percentile, name), style)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if low <= t <= high]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


def _percentile(name: str, row: Row) -> float | None:
    return row.latency_ms.get(name)


def _flops(axes: Axes, report: Report) -> None:
    axes.set_title("mean FLOPs an image, M: charged, executed dotted", loc="left", fontsize=9)
    _lines(
        axes, report, lambda row: None if row.charged_flops is None else row.charged_flops / 1e6, "o-", True
    )
    _lines(axes, report, lambda row: None if row.executed_flops is None else row.executed_flops / 1e6, "o:")


def _throughput(axes: Axes, report: Report) -> None:
    axes.set_title("answered a second; dashed: the closed loop's capacity", loc="left", fontsize=9)
    _lines(axes, report, lambda row: row.throughput, "o-")
    for number, (budget, rows) in enumerate(_opened(report)):
        if rows:
            axes.axhline(report.capacity[budget], color=_colour(number), linestyle="--", linewidth=0.8)
    axes.set_ylim(bottom=0)


def _lines(axes: Axes, report: Report, value: Value, style: str, named: bool = False) -> None:
    for number, (budget, rows) in enumerate(_opened(report)):
        points = [(row.rate, value(row)) for row in rows]
        known = [(rate, height) for rate, height in points if rate is not None and height is not None]
        label = ("no budget" if budget == "none" else f"budget {budget}") if named else None
        x, y = [rate for rate, _ in known], [height for _, height in known]
        axes.plot(x, y, style, color=_colour(number), markersize=4, linewidth=1.4, label=label)


def _opened(report: Report) -> Sequence[tuple[str, list[Row]]]:
    """Open loops of each budget by rate."""
    return [
        (
            budget,
            sorted(
                (row for row in report.rows if row.budget == budget and row.loop == "open"),
                key=lambda row: row.rate or 0.0,
            ),
        )
        for budget in report.budgets()
    ]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
