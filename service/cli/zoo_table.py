"""The zoo as a table on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from service.cli.options import console

if TYPE_CHECKING:
    from model_store.zoo import Counted


def show_zoo(entries: Sequence[Counted]) -> None:
    """Print one network a row, its papers' figures beside ours; reasons for differences come below."""
    table = Table(
        title="networks; M multiply-adds of all blocks and heads, native and at 224x224",
        box=None,  # with lines it would not fit into 80 columns
        padding=(0, 1, 0, 0),
    )
    table.add_column("network", no_wrap=True)
    for column in ("exits", "side", "params", "paper", "FLOPs", "paper", "at 224", "why"):
        table.add_column(column, justify="right")
    reasons: list[str] = []
    for entry in entries:
        paper = entry.paper
        theirs = ("", "") if paper is None else (_millions(paper.parameters), _millions(paper.flops))
        mark = ""
        if paper is not None and paper.why is not None:
            if paper.why not in reasons:
                reasons.append(paper.why)
            mark = str(reasons.index(paper.why) + 1)
        flops = (_millions(entry.flops["native"]), theirs[1], _millions(entry.flops["224"]))
        sizes = (str(entry.exits), str(entry.side), _millions(entry.parameters), theirs[0])
        table.add_row(entry.name, *sizes, *flops, mark)
    console.print(table)
    for number, reason in enumerate(reasons, start=1):
        console.print(f"{number}  {reason}", highlight=False)


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:,.4g}" if count < 1e9 else f"{count / 1e6:,.0f}"
