"""``exitramp profile`` measures parts and a real service."""

from __future__ import annotations

import json

import pytest
from conftest import SmallStore
from typer.testing import CliRunner

from service.cli import app
from service.cli.options import Failure

QUICK = ("--rounds", "2", "--seconds", "0.5", "--connections", "4")


def test_the_budget_of_a_request_sums_to_what_the_client_waited(small_store: SmallStore) -> None:
    command = ["profile", "small", "--store", str(small_store.root), "--budget", "2M", "--json", *QUICK]
    found = CliRunner().invoke(app, command, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert [(run["name"], run["connections"]) for run in told["served"]] == [
        ("budget 2M", 1),
        ("budget 2M", 4),
        ("full depth", 1),
        ("full depth", 4),
    ]
    for run, lines in zip(told["served"], told["budgets"], strict=True):
        assert run["failed"] == 0 and run["requests"] > 0
        assert sum(line["us"] for line in lines) == pytest.approx(1e6 * run["latency_s"] / run["requests"])
    full = told["served"][-1]
    assert list(full["exits"]) == ["4"] and list(full["spans"]) == ["1-4"]
    assert told["idle"][0]["exits"].keys() == {"1"}
    assert told["throughput"]["full depth"]["served"] > 0


def test_a_budget_that_is_no_number_is_one_line(small_store: SmallStore) -> None:
    with pytest.raises(Failure, match="--budget"):
        CliRunner().invoke(app, ["profile", "small", "--budget", "much"], catch_exceptions=False)
