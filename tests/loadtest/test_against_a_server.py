"""`exitramp bench` and Locust against a real server, and what they say when something is wrong."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from conftest import CLASSES, SmallStore
from locust_runs import locust, lying
from typer.testing import CliRunner

from service.cli import app, benching
from service.cli.options import Failure, OnProgress

sys.path.append(str(Path(__file__).parents[1] / "end_to_end"))
from live import Server, serving

KEY = "a-secret-key"
PASSWORD = "secr@t"  # noqa: S105 - to be seen nowhere
SHORT = ("--duration", "0.3", "--warm-up", "0.1", "--pause", "0", "--connections", "4")


@pytest.fixture(scope="module")
def server(small_store: SmallStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.write_text(
        json.dumps({"keys": [{"name": "bench", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]})
    )
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "KEYS_FILE": str(keys)}
    with serving(settings) as running:
        yield running


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory, png: Callable[[int], bytes]) -> Path:
    """Images that are all said to be of one class."""
    folder = tmp_path_factory.mktemp("pets")
    (folder / CLASSES[3]).mkdir()
    for number in range(40):
        (folder / CLASSES[3] / f"{number}.png").write_bytes(png(number))
    return folder


def bench(*arguments: str) -> Result:
    result: Result = CliRunner().invoke(app, ["bench", *arguments])
    return result


def refused(*arguments: str) -> str:
    """The one line that the command says when it fails."""
    result = bench(*arguments)
    assert isinstance(result.exception, Failure) and result.stdout == ""
    (line,) = str(result.exception).splitlines()
    return line


def test_a_sweep_finds_capacity_overhead_and_rows_that_agree_with_the_metrics(
    server: Server, pets: Path, tmp_path: Path
) -> None:
    cheapest = server.client.get("/models/small").json()["exits"][0]["flops"]
    budgets = f"{2 * cheapest},none"
    out = tmp_path / "report"
    command = [str(Path(sys.executable).parent / "exitramp"), "bench", "--url", server.url, "--json"]
    command[3] = server.url.replace("//", f"//user:{PASSWORD}@")
    command += ["--data", str(pets), "--budgets", budgets, "--rates", "40,80", "--api-key", KEY]
    done = subprocess.run(
        [*command, *SHORT, "--out", str(out)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((out / "report.json").read_text()) and told["incomplete"] is None
    written = (out / "report.json").read_text() + (out / "report.md").read_text()
    assert not any(secret in written + done.stderr for secret in (KEY, PASSWORD))
    assert told["url"] == server.url and f"bench --url {server.url} --json" in told["command"]
    assert "--api-key KEY" in told["command"] and (out / "report.png").read_bytes().startswith(b"\x89PNG")

    rows = told["rows"]
    assert [(row["loop"], row["rate"]) for row in rows] == [("closed", None)] * 2 + [
        ("open", rate) for rate in (40, 40, 80, 80)
    ]
    assert (
        sum(row["sent"] for row in rows)
        <= server.metrics()['exitramp_requests_total{code="200",route="/classify"}']
    )
    for row in rows:
        assert row["mismatches"] == [] and set(row["statuses"]) == {"200"}
        assert row["answered"] == row["sent"] == row["labelled"] >= row["distinct"] > 0
        assert row["seconds"] == pytest.approx(0.3, abs=0.15) and row["drain_s"] >= 0
        assert sum(row["exits"].values()) == pytest.approx(1)
        assert row["executed_flops"] >= row["charged_flops"] > 0
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p99"] <= row["latency_ms"]["max"]
        assert row["server_cores"] > 0 and row["server_mib"] > 50 and row["client_cores"] > 0
    assert {row["budget"]: row["throughput"] for row in rows[:2]} == told["capacity"]
    assert [one["rate"] for one in told["overhead"]] == [None, 40, 80]
    assert all(one["sent"] > 0 and one["cpu_ms"] > 0 for one in told["overhead"])


def test_by_itself_it_chooses_budgets_of_the_model_s_curve_and_images_of_several_sizes(
    server: Server, tmp_path: Path
) -> None:
    done = bench("--url", server.url, "--api-key", KEY, *SHORT, "--loads", "0.2", "--out", str(tmp_path))
    assert done.exit_code == 0
    told = json.loads((tmp_path / "report.json").read_text())
    assert len(told["capacity"]) == 4 and "none" in told["capacity"]
    assert told["images"] == {"source": "synthetic, of several sizes", "count": 64, "labelled": 0}
    assert all(row["accuracy"] is None for row in told["rows"])
    for row in told["rows"][4:]:
        assert row["rate"] == pytest.approx(0.2 * told["capacity"][row["budget"]])


def test_what_cannot_be_measured_is_one_line(server: Server, tmp_path: Path) -> None:
    at = ("--url", server.url, "--api-key", KEY)
    assert "cannot be measured: Cannot connect" in refused("--url", "http://127.0.0.1:9")
    assert "--url: nonsense does not begin with http://" in refused("--url", "nonsense")
    assert "secret" not in refused("--url", "http://user:secret@127.0.0.1:9")
    assert "secret" not in refused("--url", server.url.replace("//", "//user:secret@"))
    assert "no metrics; is this exitramp?" in refused("--url", f"{server.url}/models")
    assert "401" in refused("--url", server.url)
    assert "X-Model: nonesuch: 404 no model or task" in refused(*at, "--model", "nonesuch")
    assert "X-FLOP-Budget: 1: 422" in refused(*at, "--budgets", "none,1")
    assert "'12x' is not a positive number" in refused("--budgets", "12x")
    assert "--loads: '0' has to be positive" in refused("--loads", "0")
    assert "--loads: '1,x' has to be numbers" in refused("--loads", "1,x")
    (tmp_path / "file").touch()
    assert "is no folder" in refused("--out", str(tmp_path / "file" / "report"))
    assert "names a load" in refused("--loads", "")
    assert "CLASS/* is there" in refused("--data", str(tmp_path))
    (tmp_path / "test-0.parquet").write_text("no Parquet")
    assert "test-0.parquet: no Parquet file of images" in refused("--data", str(tmp_path))
    assert bench("--data", str(tmp_path / "nowhere")).exit_code == 2


def test_sigterm_keeps_what_has_been_measured_and_leaves_no_process(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "bench", "--url", server.url, "--api-key", KEY]
    command += ["--budgets", "none", "--loads", "0.1,0.1,0.1,0.1", "--duration", "2", "--warm-up", "0.1"]
    command += ["--pause", "0.1", "--out", str(tmp_path / "report")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        deadline_s = time.monotonic() + 30
        while not (null := children(running.pid)):
            assert time.monotonic() < deadline_s and running.poll() is None
            time.sleep(0.05)
        running.terminate()
        _, said = running.communicate(timeout=30)
    assert running.returncode == 130 and "interrupted" in said
    assert (tmp_path / "report" / "report.json").exists()
    deadline_s = time.monotonic() + 10  # where the signal came while it started, it notices by itself
    while any(Path(f"/proc/{pid}").exists() for pid in null):
        assert time.monotonic() < deadline_s, "the null server is still there"
        time.sleep(0.05)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_the_null_server_ends_with_whoever_started_it() -> None:
    command = [sys.executable, "-m", "loadtest.null_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write(json.dumps({"body": "", "headers": {}}) + "\n")
        running.stdin.flush()
        assert running.stdout.readline().startswith("http://")
        running.stdin.close()
        assert running.wait(20) == 0


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "loadtest"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert "pip install 'exitramp[loadtest]'" in refused()


@pytest.mark.parametrize("where", ["warm-up", "the generator itself"])
def test_an_interruption_keeps_what_has_been_measured(
    server: Server, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    @contextmanager
    def impatient() -> Iterator[OnProgress]:
        def show(what: str, done: int, total: int) -> None:
            if where in what:
                raise KeyboardInterrupt

        yield show

    monkeypatch.setattr(benching, "progress", impatient)
    done = bench(
        *("--url", server.url, "--api-key", KEY, "--data", str(pets), "--budgets", "none"),
        *(*SHORT, "--out", str(tmp_path)),
    )
    assert done.exit_code == 130 and "exitramp: interrupted" in done.stderr
    if where == "warm-up":
        assert not list(tmp_path.iterdir())
    else:
        told = json.loads((tmp_path / "report.json").read_text())
        assert told["incomplete"] == "interrupted" and [row["loop"] for row in told["rows"]] == ["closed"]
        assert "**Incomplete: interrupted**" in (tmp_path / "report.md").read_text()


def test_users_of_every_kind_find_no_fault_in_a_server_and_find_a_liar_out(
    server: Server, pets: Path
) -> None:
    code, said = locust(server.url, pets, KEY, seconds=4)
    assert code == 0, said
    total, failed = map(int, re.findall(r"Aggregated +(\d+) +(\d+)\(", said)[0])
    assert total > 20 and failed == 0
    for kind in ("many images", "budget", "limit", "deadline", "too little: 422", "stream"):
        assert re.search(rf"POST +/classify.*{kind}", said), kind
    assert re.search(r"accuracy, /classify.*: [01]\.\d+ of \d+ labelled images", said)
    counted = server.metrics().items()
    assert total <= sum(value for name, value in counted if name.startswith("exitramp_requests_total"))

    with lying(server.url) as url:
        code, said = locust(url, pets, KEY, seconds=2)
    assert code == 1 and "over the limit of" in said, said
