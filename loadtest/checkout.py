"""Start the service of this checkout for one measurement, on a free port of this machine.

    python -m loadtest.checkout [--set EXITRAMP_THREADS=2 …] -- COMMAND …

runs COMMAND with the service's address in $URL and its process in $SERVER_PID, ends the service, and prints
one JSON line with what the service says of itself: images by exit, and FLOPs.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from loadtest.errors import LoadTestError, run_script
from loadtest.metrics_page import Page, parse_page

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"

PATIENCE_S = 120.0
"""Longest wait for the models to be loaded, seconds."""

RESTING_S = 0.1
"""Processor time of a service that rests, seconds a second: what it takes to ask for it."""

LOOK_S = 0.1
"""Between two looks whether they are, seconds."""


@dataclass(frozen=True)
class Running:
    """A service that is ready."""

    url: str
    pid: int

    def metrics(self) -> Page:
        """Its own account of what it did since it started."""
        with urlopen(f"{self.url}/metrics", timeout=10) as answer:  # noqa: S310 - as the log named it
            return parse_page(answer.read().decode())


@contextmanager
def running(settings: Mapping[str, str]) -> Iterator[Running]:
    """Serve with these settings, by the names of their environment variables, until the end of the block.

    Raises:
        LoadTestError: It does not become ready.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    quiet = {"EXITRAMP_LOG_LEVEL": "warning", "EXITRAMP_HOST": HOST, "EXITRAMP_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve"],
        cwd=ROOT,
        env={**os.environ, **settings, **quiet},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C is for the one who measures, and ends this one in turn
    )
    try:
        url = f"http://{HOST}:{port}"
        _wait(process, url)
        service = Running(url, process.pid)
        _settle(service)
        yield service
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    patience_s = time.monotonic() + PATIENCE_S
    while True:
        if process.poll() is not None:
            raise LoadTestError(f"the service ended with exit code {process.returncode} before it was ready")
        try:
            with urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - as the log named it
                return
        except (URLError, OSError):
            if time.monotonic() > patience_s:
                raise LoadTestError(f"the service was not ready within {PATIENCE_S:.0f} s") from None
            time.sleep(LOOK_S)


def _settle(service: Running) -> None:
    """Wait until it rests: what not every request needs is compiled once it is ready."""
    spent_s, patience_s = -inf, time.monotonic() + PATIENCE_S
    while time.monotonic() < patience_s:
        before_s, spent_s = spent_s, service.metrics().total("process_cpu_seconds_total")
        if spent_s - before_s < RESTING_S:
            return
        time.sleep(1)
    raise LoadTestError(f"the service did not come to rest within {PATIENCE_S:.0f} s")


def account(page: Page) -> dict[str, Any]:
    """What was answered, all models together."""
    exits = page.by("exit", "exitramp_images_total")
    images = sum(exits.values())
    charged, executed = (page.total("exitramp_flops_total", kind=kind) for kind in ("charged", "executed"))
    return {
        "images": images,
        "exits": dict(sorted(exits.items())),
        "charged_flops": charged / images if images else None,
        "executed_over_charged": executed / charged if charged else None,
    }


def main() -> int:
    """Parse the command line, serve, run the command; its exit code is ours."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", default=[], metavar="EXITRAMP_…=…", help="a setting")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with running(dict(setting.split("=", 1) for setting in options.set)) as service:
        environment = {**os.environ, "URL": service.url, "SERVER_PID": str(service.pid)}
        code = subprocess.run(options.command, env=environment).returncode
        sys.stdout.write(json.dumps(account(service.metrics())) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(run_script(main))
