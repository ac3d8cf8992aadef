"""What ``exitramp profile`` prints."""

from __future__ import annotations

from rich.table import Table

from service.cli.options import console
from service.profiling.account import TARGET, total_us
from service.profiling.report import Profile


def show_profile(profile: Profile) -> None:
    """Print parts, launches, the budget of a request and throughput against the limit."""
    times = profile.times
    console.print(
        f"{times.model}, {times.device} {times.precision}, {times.threads} threads a launch; {times.machine}",
        soft_wrap=True,
    )
    _show_parts(profile)
    _show_launches(profile)
    _show_budgets(profile)
    _show_throughput(profile)


def _show_parts(profile: Profile) -> None:
    table = _table("each part alone, microseconds", "part", "median", "first to ninth decile")
    for part in profile.parts:
        table.add_row(part.name, f"{part.median_us:.1f}", f"{part.low_us:.1f} to {part.high_us:.1f}")
    console.print(table)


def _show_launches(profile: Profile) -> None:
    spans = profile.times.spans
    sizes = sorted(next(iter(spans.values())))
    table = _table("launches alone, ms (images/s)", "span", *(f"{size} images" for size in sizes))
    for span, launches in spans.items():
        medians_s = {size: launches[size].median_s for size in sizes}
        table.add_row(span, *(f"{took * 1e3:.2f} ({size / took:.0f})" for size, took in medians_s.items()))
    console.print(table)


def _show_budgets(profile: Profile) -> None:
    names = [f"{run.name}, {run.connections}" for run in profile.served]
    table = _table("the budget of a request, mean microseconds, by connections", "part", *names, "source")
    for lines in zip(*profile.budgets, strict=True):
        table.add_row(lines[0].name, *(f"{line.us:.0f}" for line in lines), lines[0].source)
    table.add_section()
    sums = (f"{total_us(lines):.0f}" for lines in profile.budgets)
    table.add_row("sum: what the client waited", *sums, "client")
    console.print(table)


def _show_throughput(profile: Profile) -> None:
    table = _table("throughput against the limit", "", *profile.throughput)
    found = profile.throughput.values()
    rows = {
        "served, answers/s": [f"{one.served:.0f}" for one in found],
        "in launches, us an image": [f"{one.device_us:.0f}" for one in found],
        "the same spans in the largest launches, us": [f"{one.offline_us:.0f}" for one in found],
        "service without its network, us of a core": [f"{one.around_us:.0f}" for one in found],
        "client on the same cores, us of a core": [f"{one.client_us:.0f}" for one in found],
        "network alone, images/s": [f"{one.offline:.0f}" for one in found],
        "limit with decoding and HTTP, answers/s": [f"{one.limit:.0f}" for one in found],
        "limit with the client, too": [f"{one.limit_with_client:.0f}" for one in found],
        f"served, of that limit (target {TARGET})": [f"{one.share:.2f}" for one in found],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
