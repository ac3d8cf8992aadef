"""The figure of a long run: memory, descriptors and threads, latency, each over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = ("#1b6ca8", "#c8553d")


def draw(told: Mapping[str, Any], path: Path) -> None:
    """Draw the steps of a soak."""
    from matplotlib.figure import Figure

    steps = told["steps"]
    minutes = [step["seconds"] / 60 for step in steps]
    panels = {
        "resident memory, MiB": {"": [step["resident_mib"] for step in steps]},
        "descriptors and threads of the server": {
            name: [step[name] for step in steps] for name in ("descriptors", "threads")
        },
        "latency, ms": {
            name: [step["latency_ms"].get(name, float("nan")) for step in steps] for name in ("p50", "p99")
        },
    }
    figure = Figure(figsize=(11.0, 3.8), dpi=160, facecolor="white", layout="constrained")
    open_besides = told["idle_connections"]["open"]
    title = f"{told['rate']:.0f} requests a second at random times, several budgets; {told['sent']} sent, "
    title += f"by {told['users']} users, " if told.get("users") else ""
    title += f"{told['failed']} failed; {open_besides} idle connections besides"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for axes, (name, curves) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for colour, (label, values) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(minutes, values, "o-", color=colour, markersize=3, linewidth=1.2, label=label)
        axes.set_ylim(0, 1.1 * max(axes.get_ylim()[1], 1e-9))
        axes.set_xlabel("minutes")
        axes.set_title(name, loc="left", fontsize=9)
        axes.grid(color="#e4e7ea", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
