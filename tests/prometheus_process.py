"""A real Prometheus for the tests, with the repository's own configuration and rules."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import yaml
from programs import tool

CONFIGURATION = Path(__file__).parents[1] / "deploy" / "prometheus"

START_S = 60
"""Patience with the start of Prometheus on a busy machine, seconds."""


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str
    client: httpx.Client

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, expression: str) -> list[float]:
        """What an expression gives now, each series' value; of a scalar that one."""
        data = self.ask("query", query=expression)
        samples = [data] if data["resultType"] == "scalar" else data["result"]
        return [float(sample["result"][1] if sample is data else sample["value"][1]) for sample in samples]

    def has_data(self, expression: str) -> bool:
        """Whether there is at least one series, and every value is a number."""
        values = self.values(expression)
        return bool(values) and all(map(isfinite, values))


def derive(folder: Path, target: str) -> Path:
    """The configuration of ``deploy/prometheus`` for another target, and too impatient for minutes."""
    settings = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
    intervals = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "500ms"}
    settings["global"] |= intervals
    (job,) = settings["scrape_configs"]
    job["static_configs"][0]["targets"] = [target]
    for name in settings["rule_files"]:
        rules = yaml.safe_load((CONFIGURATION / name).read_text())
        for group in rules["groups"]:
            group.pop("interval", None)
        (folder / name).write_text(yaml.safe_dump(rules))
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(settings))
    return file


@contextmanager
def watching(folder: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``target`` (host:port) until the end of the block."""
    program = tool("prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [program, f"--config.file={derive(folder, target)}", f"--web.listen-address={address}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", "--log.level=error"]
    process = subprocess.Popen(command)
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
            wait(client, process)
            yield Prometheus(f"http://{address}", client)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder / "data", ignore_errors=True)


def wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline_s, "Prometheus never got ready"
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
