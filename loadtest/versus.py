"""Our service and its peers side by side: the same images, the same client, one server at a time, in turns.

    python -m loadtest.versus --peers DIR --rounds 3 --out loadtest/reports/versus

DIR holds ``run.sh PEER WORKLOAD CONNECTIONS SECONDS``, which starts a peer, warms it up and drives it with
``wrk``; ``run.sh ours …`` does that with the service that this script starts from this checkout. Nobody runs
beside anybody. Writes versus.json and versus.md after every measurement; --resume goes on where one stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.checkout import ROOT
from loadtest.errors import LoadTestError, run_script
from loadtest.report import machine
from loadtest.versus_table import to_markdown

OURS = "ours"
PEERS = ("fastapi", "litserve", "bentoml", "ray", "mosec")

PHOTO_MODEL = "efficientnet_b0"
"""What answers photographs: torchvision's, with random weights like the peers'."""

MODELS = {"cifar": "cifar10-fusion", "photo": PHOTO_MODEL}
"""By workload: one network, as the peers have."""

TOLD = re.compile(
    r"(?P<throughput>[\d.]+) req/s  p50 (?P<p50_ms>[\d.]+)  p90 (?P<p90_ms>[\d.]+)  p99 (?P<p99_ms>[\d.]+) ms"
    r"  errors (?P<errors>\d+)  non-2xx (?P<refused>\d+)"
)
"""The line that ``run.sh`` ends with."""


@dataclass(frozen=True)
class Row:
    """One kind of load.

    Attributes:
        name: Of ours: what is asked for.
        workload: Of ``run.sh``: images and network.
        connections: Users who send one request after the other.
        header: Sent to our service only; the peers always run the whole network.
        settings: Of our service, other than its own.
    """

    name: str
    workload: str
    connections: int
    header: str = ""
    settings: tuple[str, ...] = ()


INT8 = ("EXITRAMP_PRECISION=int8",)

ROWS = (
    Row("ours, 25M", "cifar", 32, "X-FLOP-Budget: 25M"),
    # A limit and no budget: one exit, the deepest that it pays for; this one pays for all of them.
    Row("ours, full depth", "cifar", 32, "X-FLOP-Limit: 100M"),
    Row("ours in int8, 25M", "cifar", 32, "X-FLOP-Budget: 25M", INT8),
    Row("ours in int8, full depth", "cifar", 32, "X-FLOP-Limit: 100M", INT8),
    Row("ours, 25M", "cifar", 1, "X-FLOP-Budget: 25M"),
    Row("ours, full depth", "cifar", 1, "X-FLOP-Limit: 100M"),
    Row("ours", "photo", 16),
    Row("ours", "photo", 1),
)


@dataclass(frozen=True)
class Measured:
    """One measurement; milliseconds, requests a second.

    Attributes:
        round: From 1.
        server: A peer's name, or that of our row.
        workload: See ``Row``.
        connections: See ``Row``.
        figures: What ``run.sh`` said.
        account: What our service said of itself: images by exit, FLOPs; ``None`` of a peer.
    """

    round: int
    server: str
    workload: str
    connections: int
    figures: dict[str, float]
    account: dict[str, Any] | None = None

    @property
    def place(self) -> tuple[int, str, str, int]:
        """What it is a measurement of."""
        return self.round, self.server, self.workload, self.connections


def turns(rounds: int, servers: Sequence[str], rows: Sequence[Row]) -> list[tuple[int, str, Row]]:
    """(round, server, row) of all measurements: in each round and kind of load one server after another."""
    kinds: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.workload, row.connections), []).append(row)
    return [
        (number, server, row)
        for number in range(1, rounds + 1)
        for alike in kinds.values()
        for server in servers
        for row in (alike if server == OURS else alike[:1])
    ]


def command_of(options: argparse.Namespace, server: str, row: Row, store: str) -> list[str]:
    """What measures ``row`` of ``server``."""
    script = str(options.peers / "run.sh")
    run = ["bash", script, server, row.workload, str(row.connections), f"{options.seconds:g}"]
    if server == OURS:
        settings = [*row.settings, f'EXITRAMP_MODELS=["{MODELS[row.workload]}"]']
        if row.workload == "photo":
            settings.append(f"EXITRAMP_MODEL_STORE={store}")
        named = [part for setting in settings for part in ("--set", setting)]
        run = [sys.executable, "-m", "loadtest.checkout", *named, "--", *run]
    return [*shlex.split(options.prefix), *run]


def measure(command: Sequence[str], number: int, server: str, row: Row) -> Measured:
    """Run one measurement.

    Raises:
        LoadTestError: The server did not answer.
    """
    environment = {**os.environ, "HDR": row.header if server == OURS else ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    told = TOLD.search(done.stdout)
    if told is None:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise LoadTestError(f"{server}, {row.workload}: {said[-1] if said else done.returncode}")
    figures = {name: float(value) for name, value in told.groupdict().items()}
    ours = json.loads(done.stdout.strip().splitlines()[-1]) if server == OURS else None
    name = row.name if server == OURS else server
    return Measured(number, name, row.workload, row.connections, figures, ours)


def make_store(folder: str) -> None:
    """An artifact of the photographs' network."""
    command = [sys.executable, "-m", "service.cli", "import", f"torchvision:{PHOTO_MODEL}"]
    command += ["--weights", "none", "--store", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise LoadTestError(f"{PHOTO_MODEL} cannot be imported: {done.stderr.strip()}")


def versions(servers: Sequence[str]) -> dict[str, str]:
    """What was measured: the peers' packages in the environments that ``run.sh`` made, and this checkout."""
    home = Path(os.environ.get("PEERS_HOME", Path.home() / ".cache" / "peers"))
    code = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    found = {}
    pythons = {server: home / server / "bin" / "python" for server in servers}
    for peer, python in pythons.items():
        if not python.exists():  # ours, or a peer whose environment is elsewhere
            continue
        done = subprocess.run([python, "-c", code, peer, "torch"], capture_output=True, text=True)
        if done.returncode == 0:
            version, torch = done.stdout.split()
            found[peer] = f"{version}, torch {torch}"
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    found[OURS] = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    return found


def run(options: argparse.Namespace) -> None:
    """All measurements that are still missing."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    path = out / "versus.json"
    report: dict[str, Any] = {"measured": []}
    if options.resume and path.exists():
        report = json.loads(path.read_text())
    report |= {"seconds": options.seconds, "machine": machine(), "command": shlex.join(sys.argv[1:])}
    rows = [
        row for row in ROWS if row.workload in options.workloads and row.connections in options.connections
    ]
    known = {Measured(**one).place for one in report["measured"]}
    with tempfile.TemporaryDirectory() as store:
        if "photo" in options.workloads and OURS in options.servers:
            make_store(store)
        for number, server, row in turns(options.rounds, options.servers, rows):
            name = row.name if server == OURS else server
            if (number, name, row.workload, row.connections) in known:
                continue
            one = measure(command_of(options, server, row, store), number, server, row)
            sys.stderr.write(f"{one.place} {one.figures}\n")
            report["measured"].append(asdict(one))
            report["versions"] = versions(options.servers)
            path.write_text(json.dumps(report, indent=1) + "\n")
            (out / "versus.md").write_text(to_markdown(report))


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, required=True, metavar="DIR", help="folder of run.sh")
    parser.add_argument("--servers", nargs="*", default=[OURS, *PEERS], help="who is measured (all)")
    parser.add_argument("--workloads", nargs="*", default=["cifar", "photo"], help="cifar, photo (both)")
    users = sorted({row.connections for row in ROWS})
    parser.add_argument("--connections", type=int, nargs="*", default=users, help="which loads (all)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="of each, after 4 to warm up (%(default)s)")
    parser.add_argument("--prefix", default="", help="put before each command: taskset, a lock, …")
    parser.add_argument("--resume", action="store_true", help="keep what --out has, measure what it lacks")
    parser.add_argument("--out", type=Path, default=Path("versus"), help="folder of the report (%(default)s)")
    run(parser.parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
