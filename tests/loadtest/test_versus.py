"""Servers take turns, nobody is measured twice, and the report names the best peer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from loadtest import versus
from loadtest.errors import LoadTestError
from loadtest.versus import OURS, ROWS, Measured, Row, command_of, measure, turns
from loadtest.versus_table import rows, to_markdown

SCRIPT = """
[ "$1" = broken ] && { echo "broken did not answer (last status 000)"; exit 1; }
echo "$1 $2 c=$3: 98.8 req/s  p50 10.3  p90 10.8  p99 13.4 ms  errors 1  non-2xx 2"
"""


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script that measures nothing."""
    monkeypatch.setenv("PEERS_HOME", str(tmp_path))
    (tmp_path / "run.sh").write_text(SCRIPT)
    return tmp_path


def options(peers: Path, **changed: object) -> argparse.Namespace:
    told = {"seconds": 8.0, "prefix": "", "rounds": 2, "workloads": ["cifar"], "connections": [32]}
    return argparse.Namespace(
        peers=peers,
        out=peers / "out",
        **{**told, "servers": ["fastapi", "mosec"], "resume": False, **changed},
    )


def one(server: str, throughput: float, number: int = 1) -> dict[str, object]:
    figures = {
        "throughput": throughput,
        "p50_ms": 1.0,
        "p90_ms": 2.0,
        "p99_ms": 3.0,
        "errors": 0,
        "refused": 0,
    }
    return {
        "round": number,
        "server": server,
        "workload": "cifar",
        "connections": 32,
        "figures": figures,
        "account": None,
    }


def test_in_each_round_and_kind_of_load_everybody_has_a_turn() -> None:
    order = turns(2, [OURS, "fastapi"], [*ROWS[:2], *ROWS[4:6]])
    kinds = [(number, server, row.name, row.connections) for number, server, row in order]
    first = [
        (1, OURS, "ours, 25M", 32),
        (1, OURS, "ours, full depth", 32),
        (1, "fastapi", "ours, 25M", 32),  # the peer's row only says which load
        (1, OURS, "ours, 25M", 1),
        (1, OURS, "ours, full depth", 1),
        (1, "fastapi", "ours, 25M", 1),
    ]
    assert kinds == [*first, *((2, *rest) for _, *rest in first)]


def test_what_the_script_says_is_read(peers: Path) -> None:
    command = command_of(options(peers), "fastapi", ROWS[0], "")
    found = measure(command, 1, "fastapi", ROWS[0])
    assert found.place == (1, "fastapi", "cifar", 32) and found.account is None
    assert found.figures["throughput"] == 98.8 and found.figures["p99_ms"] == 13.4
    assert (found.figures["errors"], found.figures["refused"]) == (1, 2)


def test_a_server_that_does_not_answer_is_named_with_what_it_said(peers: Path) -> None:
    with pytest.raises(LoadTestError, match="broken, cifar: broken did not answer"):
        measure(command_of(options(peers), "broken", ROWS[0], ""), 1, "broken", ROWS[0])


def test_ours_is_started_from_this_checkout_with_the_store_of_the_photographs(peers: Path) -> None:
    command = command_of(options(peers, prefix="nice -n 1"), OURS, Row("ours", "photo", 16), "/store")
    assert command[:2] == ["nice", "-n"] and command[4:6] == ["-m", "loadtest.checkout"]
    assert "EXITRAMP_MODEL_STORE=/store" in command
    assert command[command.index("--") + 1 :] == ["bash", str(peers / "run.sh"), OURS, "photo", "16", "8"]


def test_what_is_measured_is_written_at_once_and_not_measured_again(peers: Path) -> None:
    versus.run(options(peers))
    report = json.loads((peers / "out" / "versus.json").read_text())
    assert [Measured(**entry).place[:2] for entry in report["measured"]] == [
        (1, "fastapi"),
        (1, "mosec"),
        (2, "fastapi"),
        (2, "mosec"),
    ]
    (peers / "run.sh").write_text("exit 1")
    versus.run(options(peers, resume=True))
    with pytest.raises(LoadTestError):
        versus.run(options(peers, resume=True, rounds=3))
    assert len(json.loads((peers / "out" / "versus.json").read_text())["measured"]) == 4


def test_ratios_are_of_the_median_of_the_best_peer() -> None:
    told = [one("mosec", rate, number) for number, rate in enumerate((90.0, 100.0, 500.0), 1)]
    told += [one("fastapi", 50.0), one("ours, 25M", 700.0), one("ours in int8, 25M", 900.0)]
    found = {cells[0]: cells for cells in rows(told)}
    assert list(found) == ["ours in int8, 25M", "ours, 25M", "mosec", "fastapi"]
    assert [cells[-1] for cells in found.values()] == ["9.00", "7.00", "1.00", "0.50"]
    assert found["mosec"][1:4] == ("3", "100", "90 to 500")


def test_the_report_says_what_ours_spent() -> None:
    account = {"exits": {"7": 10}, "charged_flops": 75e6, "executed_over_charged": 1.01}
    report = {
        "machine": {"cores": 2, "processor": "a processor"},
        "seconds": 8.0,
        "measured": [{**one("ours, full depth", 700.0), "account": account}],
        "versions": {"ours": "abc"},
    }
    text = to_markdown(report)
    assert "75.00 MFLOPs an image, 10 at exit 7; executed 1.010 times" in text
    assert "Versions: ours abc." in text
