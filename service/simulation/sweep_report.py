"""A sweep for people: a table and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.simulation.sweep import Figures, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7a5195", "#b8860b")

HEAD: tuple[str, ...] = (
    "load",
    "offered /s",
    "answered /s",
    "p50 ms",
    "p99 ms (range)",
    "deadlines met % (range)",
)
HEAD += ("no answer %", "images a launch, by span", "executed/charged")


def draw(sweep: Sweep, path: Path) -> None:
    """Write p99, deadlines met and batches against the load there, PNG: a row for each thing varied."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    groups = list(dict.fromkeys(row.varied for row in sweep.rows))
    figure = Figure(figsize=(13.0, 3.1 * len(groups)), dpi=130, facecolor="white", layout="constrained")
    figure.suptitle(
        f"{sweep.model} in virtual time, mixed traffic with bursts; capacity {sweep.capacity:.0f} /s",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    panels = figure.subplots(len(groups), 3, squeeze=False)
    for group, (latency, met, batch) in zip(groups, panels, strict=True):
        rows = [row for row in sweep.rows if row.varied == group]
        for number, value in enumerate(dict.fromkeys(row.value for row in rows)):
            _lines(latency, met, batch, [row for row in rows if row.value == value], COLOURS[number])
        latency.set_title(f"{group}: p99, ms", loc="left", fontsize=9)
        latency.set_yscale("log")
        latency.yaxis.set_major_formatter("{x:g}")
        latency.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        latency.yaxis.set_minor_formatter("{x:g}")
        met.set_title("deadlines met, %", loc="left", fontsize=9)
        batch.set_title("images a launch of the first span", loc="left", fontsize=9)
        latency.legend(frameon=False, fontsize=8)
        for axes in (latency, met, batch):
            axes.set_xlabel("offered load, share of the capacity", fontsize=8)
            axes.grid(color="#e4e7ea", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _lines(latency: Axes, met: Axes, batch: Axes, rows: list[Figures], colour: str) -> None:
    loads = [row.load for row in rows]
    style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3.5, "linewidth": 1.3}
    latency.plot(loads, [row.p99_ms for row in rows], label=rows[0].value, **style)
    low, high = ([row.p99_range_ms[end] for row in rows] for end in (0, 1))
    latency.fill_between(loads, low, high, color=colour, alpha=0.12, linewidth=0)
    met.plot(loads, [100 * row.met for row in rows], **style)
    low, high = ([100 * row.met_range[end] for row in rows] for end in (0, 1))
    met.fill_between(loads, low, high, color=colour, alpha=0.12, linewidth=0)
    batch.plot(loads, [next(iter(row.mean_batches.values())) for row in rows], **style)


def to_markdown(sweep: Sweep, command: str, figure: str) -> str:
    """All figures as tables."""
    lines = [
        f"# Scheduling {sweep.model}, simulated",
        "",
        f"`{command}`, launch times and costs of {sweep.machine}. {sweep.requests} requests with bursts, "
        f"{sweep.repetitions} repetitions of each line with what is asked in another order: medians, and the "
        f"range. Capacity with 32 users: {sweep.capacity:.0f} answers a second.",
        "",
        f"![p99, deadlines met and batch size against load]({figure})",
    ]
    for varied in dict.fromkeys(row.varied for row in sweep.rows):
        lines += ["", f"## {varied.capitalize()}", "", f"| {varied} | {' | '.join(HEAD)} |"]
        lines.append("|---" * (len(HEAD) + 1) + "|")
        lines += [_line(row) for row in sweep.rows if row.varied == varied]
    return "\n".join(lines) + "\n"


def _line(row: Figures) -> str:
    low_ms, high_ms = row.p99_range_ms
    low, high = row.met_range
    cells = (
        row.value,
        f"{row.load:g}",
        f"{row.rate:.0f}",
        f"{row.throughput:.0f}",
        f"{row.p50_ms:.1f}",
        f"{row.p99_ms:.1f} ({low_ms:.1f}–{high_ms:.1f})",  # noqa: RUF001
        f"{row.met:.1%} ({low:.1%}–{high:.1%})".replace("%", ""),  # noqa: RUF001
        f"{row.lost:.1%}".rstrip("%"),
        ", ".join(f"{span}: {size:.1f}" for span, size in row.mean_batches.items()),
        f"{row.executed_over_charged:.3f}",
    )
    return f"| {' | '.join(cells)} |"
