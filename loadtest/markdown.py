"""A report for people: Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from loadtest.measures import SHARES
from loadtest.report import BUSY_CORES, NOTICEABLE, Overhead, Report, Row

COLUMNS = (
    *("load", "offered /s", "answered /s", "p50 ms", "p95 ms", "p99 ms", "max ms", "drain s", "errors"),
    *("accuracy %", "charged M", "executed M", "allowed M", "exits %", "degraded %", "server cores"),
    *("server MiB", "client cores", "client lag p50 / p99 ms", "card %", "notes"),
)

EXPLAINED = f"""\
The first line of each table is the closed loop, which sends as fast as it is answered: the capacity.
The others are open loops: requests at random times (Poisson) whatever comes back, latency from when
each was due. Answered/s, cores and card are those of the time in which requests were sent; *drain* is
how much longer the last answer took. FLOPs are multiply-adds per answered image: *charged* by the
answers; *executed* by the service's metrics, with padding, images that got no answer, and what ran in
the background; *allowed* is the budget, which brownout shrinks where a request has none of its own.
*Exits* are the shares of exit 1, 2, and so on. Accuracy is over the answered labelled images, ± half of
its 95 % interval, for which an image that was sent again counts once. *Card* is how busy this machine's
NVIDIA cards were.

Notes: **c**: the client had a part in it. Its own lag is more than {NOTICEABLE:.0%} of the latency at
p50 or p99, or it used more than {BUSY_CORES} of the one core that it can use. **m**: the service
counted something else than came back; the JSON says what."""


ANSWERED = 0.001
"""Largest share of errors with which a load counts as answered."""

SUMMARY = f"""\
Capacity, accuracy and FLOPs are those of the closed loop; the rest is the highest offered load, as a share
of the capacity, at which at most {ANSWERED:.1%} of the requests got no prediction. Where there is *none*,
every load met more errors: at least the share shown."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [columns, ["--:"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def filled(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same without the columns in which nothing stands."""
    kept = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    return table([columns[number] for number in kept], [[row[number] for number in kept] for row in rows])


def row_cells(row: Row) -> list[str]:
    """One measurement, as in ``COLUMNS``."""
    latency = [f"{value:.1f}" for value in row.latency_ms.values()] or [""] * len(SHARES)
    flops = [millions(value) for value in (row.charged_flops, row.executed_flops, row.allowed_flops)]
    use = (row.server_cores, row.server_mib, row.client_cores)
    return [
        "closed" if row.load is None else f"{row.load:.2f}",
        "" if row.rate is None else f"{row.rate:.0f}",
        f"{row.throughput:.0f}",
        *latency,
        f"{row.drain_s:.1f}",
        failures(row),
        accuracy(row),
        *flops,
        " ".join(f"{100 * share:.0f}" for share in exit_shares(row)),
        "" if row.degraded is None else f"{100 * row.degraded:.0f}",
        *(f"{value:.{digits}f}" if value else "" for value, digits in zip(use, (2, 0, 2), strict=True)),
        f"{row.lag_ms['p50']:.1f} / {row.lag_ms['p99']:.1f}",
        "" if row.card_percent is None else f"{row.card_percent:.0f}",
        notes(row),
    ]


def millions(flops: float | None) -> str:
    """FLOPs in millions."""
    return "" if flops is None else f"{flops / 1e6:.2f}"


def failures(row: Row) -> str:
    """Everything that is no prediction, by its status."""
    found = {status: count for status, count in row.statuses.items() if status != "200"}
    told = ", ".join(f"{status}: {count}" for status, count in found.items())
    return f"{told} ({row.errors:.1%})" if found else "0"


def accuracy(row: Row) -> str:
    """Percent, with half of its 95 % interval."""
    if row.accuracy is None or row.accuracy_95 is None:
        return ""
    low, high = row.accuracy_95
    return f"{100 * row.accuracy:.1f} ± {50 * (high - low):.1f}"


def exit_shares(row: Row) -> list[float]:
    """Of exits 1 to the deepest that answered."""
    deepest = max(map(int, row.exits), default=0)
    return [row.exits.get(str(number), 0.0) for number in range(1, deepest + 1)]


def notes(row: Row) -> str:
    """Letters that the report explains."""
    return " ".join(letter for letter, true in (("c", row.client_bound), ("m", row.mismatches)) if true)


def overhead_text(overhead: Sequence[Overhead]) -> str:
    """What the generator itself costs: a sentence and a table."""
    if not overhead:
        return "Not measured."
    columns = ("offered/s", "sent", "answered/s", "p50 ms", "p99 ms", "lag p50/p99 ms", "client cores")
    cells = [
        [
            "closed" if one.rate is None else f"{one.rate:.0f}",
            str(one.sent),
            f"{one.throughput:.0f}",
            *(f"{one.latency_ms[name]:.2f}" for name in ("p50", "p99")),
            f"{one.lag_ms['p50']:.2f} / {one.lag_ms['p99']:.2f}",
            f"{one.client_cores:.2f}",
        ]
        for one in overhead
    ]
    most = overhead[0]
    return (
        "Against a server that does nothing, in a process of its own on the client's machine, with the same "
        "images and an answer of the same length\n(what that server takes is within): "
        f"at most {most.throughput:.0f} requests a second, each for {most.cpu_ms:.2f} ms of the client's "
        f"processor time.\n\n{table(columns, cells)}"
    )


def to_markdown(report: Report, plot: str | None = None) -> str:
    """The whole report; ``plot`` is the file name of the figure beside it."""
    parts = ["# exitramp bench", f"```sh\n{report.command}\n```", _facts(report)]
    if report.incomplete:
        parts.append(f"**Incomplete: {report.incomplete}**")
    if plot:
        parts.append(f"![Accuracy, latency, FLOPs and throughput against load]({plot})")
    parts += ["## At capacity", _summary(report), "## Each budget", EXPLAINED]
    for budget in report.budgets():
        rows = [row for row in report.rows if row.budget == budget]
        asked = "No budget of their own" if budget == "none" else f"`X-FLOP-Budget: {budget}`"
        parts += [f"### {asked}", filled(COLUMNS, [row_cells(row) for row in rows])]
    parts += ["## What measuring costs", overhead_text(report.overhead)]
    return "\n\n".join(parts) + "\n"


def _summary(report: Report) -> str:
    """One line a budget: the closed loop, and the highest offered load that was answered."""
    columns = (
        *("budget", "capacity/s", "accuracy %", "charged M", "executed M", "answered load", "offered /s"),
        *("answered /s", "errors", "p50 ms", "p99 ms"),
    )
    lines = []
    for budget in report.budgets():
        closed, *opened = (row for row in report.rows if row.budget == budget)
        line = [budget, f"{closed.throughput:.0f}", accuracy(closed), millions(closed.charged_flops)]
        line += [millions(closed.executed_flops), *_highest_answered(opened)]
        lines.append(line)
    return f"{table(columns, lines)}\n\n{SUMMARY}"


def _highest_answered(opened: Sequence[Row]) -> list[str]:
    """Load, rates, errors and latency of the highest load that was answered, or that none was."""
    if not opened:
        return ["not measured", *[""] * 5]
    answered = [row for row in opened if row.errors <= ANSWERED]
    if not answered:
        return ["none", "", "", f"≥ {min(row.errors for row in opened):.1%}", "", ""]
    best = max(answered, key=lambda row: row.rate or 0)
    rates = [f"{best.load:.2f}", f"{best.rate:.0f}", f"{best.throughput:.0f}"]
    return [*rates, f"{best.errors:.2%}", *(f"{best.latency_ms[name]:.1f}" for name in ("p50", "p99"))]


def _facts(report: Report) -> str:
    """When, where, with what."""
    plan, client, images = report.plan, report.client, report.images
    served = [_described(model) for model in report.models]
    labelled = "all labelled" if images["labelled"] == images["count"] else f"{images['labelled']} labelled"
    sent = sum(row.sent for row in report.rows)
    half = max((_widest(row) for row in report.rows), default=0.0)
    facts = [
        f"{report.created}, {report.seconds:.0f} s, {sent} requests of one image each, "
        f"{plan['duration_s']:g} s a line, {plan['connections']} connections in the closed loop, "
        f"seed {plan['seed']}",
        f"images: {images['source']}, {images['count']}, {labelled}, the same order in every line"
        + (f"; accuracy to within ± {100 * half:.1f} points" if half else "; so there is no accuracy"),
        f"service: {report.url}; {'; '.join(served)}; `{report.model}` was asked",
        f"client: {client['processor']}, {client['cores']} cores, {client['system']}, "
        f"Python {client['python']}, load average before {client['load_average']:.1f}",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _described(model: dict[str, Any]) -> str:
    return f"{model['name']}@{model['version']}, policy {model['policy']}, on {model['device']}"


def _widest(row: Row) -> float:
    return 0.0 if row.accuracy_95 is None else (row.accuracy_95[1] - row.accuracy_95[0]) / 2
