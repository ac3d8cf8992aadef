"""The side-by-side report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

COLUMNS = (
    "server",
    "n",
    "requests/s",
    "lowest to highest",
    "p50 ms",
    "p99 ms",
    "errors",
    "times the best peer",
)

Measurements = Sequence[Mapping[str, Any]]


def to_markdown(report: Mapping[str, Any]) -> str:
    """A table for each kind of load, fastest first."""
    machine = report["machine"]
    lines = [
        "# Side by side with peers",
        "",
        f"{machine['cores']} cores of {machine['processor']}; the client runs on them, too. Medians of "
        f"measurements of {report['seconds']:g} s, one server at a time, in turns. The peers run the whole "
        "network for every image; so does ours at full depth.",
        "",
    ]
    kinds = dict.fromkeys((one["workload"], one["connections"]) for one in report["measured"])
    for workload, connections in kinds:
        users = f"{connections} connections" if connections > 1 else "one connection"
        lines += [f"## {workload}, {users}", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
        chosen = [
            one
            for one in report["measured"]
            if one["workload"] == workload and one["connections"] == connections
        ]
        lines += [f"| {' | '.join(cells)} |" for cells in rows(chosen)]
        lines += ["", *_spent(chosen)]
    told = "; ".join(f"{name} {version}" for name, version in report.get("versions", {}).items())
    return "\n".join([*lines, f"Versions: {told}.", ""])


def rows(measured: Measurements) -> Iterator[tuple[str, ...]]:
    """The cells of each server, fastest first."""
    by_server = {
        one["server"]: [other for other in measured if other["server"] == one["server"]] for one in measured
    }
    rates = {name: middle(runs, "throughput") for name, runs in by_server.items()}
    best_peer = max((rate for name, rate in rates.items() if not is_ours(name)), default=None)
    for name in sorted(rates, key=lambda name: -rates[name]):
        runs = by_server[name]
        each = [one["figures"]["throughput"] for one in runs]
        failed = sum(one["figures"]["errors"] + one["figures"]["refused"] for one in runs)
        yield (
            name,
            str(len(runs)),
            f"{rates[name]:.0f}",
            f"{min(each):.0f} to {max(each):.0f}",
            f"{middle(runs, 'p50_ms'):.1f}",
            f"{middle(runs, 'p99_ms'):.1f}",
            f"{failed:.0f}",
            f"{rates[name] / best_peer:.2f}" if best_peer else "",
        )


def is_ours(server: str) -> bool:
    """Whether a row is of our service."""
    return server.split(",")[0].split()[0] == "ours"


def middle(runs: Measurements, figure: str) -> float:
    """The median of one figure."""
    return float(median(one["figures"][figure] for one in runs))


def _spent(measured: Measurements) -> Iterator[str]:
    """What our answers cost by the service's own account, warm-up included."""
    accounts = {one["server"]: one["account"] for one in measured if one["account"]}
    for server, account in accounts.items():
        exits = ", ".join(f"{count} at exit {exit_}" for exit_, count in account["exits"].items())
        wasted = account["executed_over_charged"]
        yield (
            f"{server}, last round: {account['charged_flops'] / 1e6:.2f} MFLOPs an image, {exits}; executed "
            f"{wasted:.3f} times what was charged."
        )
        yield ""
