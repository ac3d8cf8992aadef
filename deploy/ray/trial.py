"""Starts a local cluster as a process of its own and talks to it; imports nothing of Ray."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

ENDING_S = 60
"""Patience with the end of a cluster, seconds."""


class Trial:
    """A running cluster."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        """Talk to ``process``, whose proxy is at ``url``."""
        self._process = process
        self.url = url

    def do(self, method: str, /, **arguments: Any) -> Any:
        """Call a method of ``deploy.ray.local.LocalCluster`` there and wait for what it returns.

        Raises:
            RuntimeError: The cluster has ended; the reason is on its standard error.
        """
        return self._tell([method, arguments])

    def wait(self, until: Callable[[], bool], patience_s: float) -> float:
        """Wait until something holds; how long it took, seconds.

        Raises:
            TimeoutError: It did not within ``patience_s``.
        """
        started_s = time.monotonic()
        while not until():
            if time.monotonic() > started_s + patience_s:
                raise TimeoutError(f"nothing changed within {patience_s:g} s")
            time.sleep(0.1)
        return time.monotonic() - started_s

    def _tell(self, line: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the cluster has ended")
        return json.loads(answer)


@contextmanager
def trial(nodes: Sequence[Mapping[str, float]], settings: Mapping[str, str]) -> Iterator[Trial]:
    """A cluster on the loopback interface until the end of the block.

    Args:
        nodes: Resources of each node; the first is the head.
        settings: ``EXITRAMP_*`` variables without the prefix.
    """
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder, "ray").mkdir()  # a cluster of several nodes expects it
        environment = {**_environment(settings), "RAY_TMPDIR": folder}  # short: sockets are in it
        with _started(environment, {"port": _free_port(), "nodes": list(nodes)}) as cluster:
            yield cluster


@contextmanager
def _started(environment: dict[str, str], wanted: dict[str, Any]) -> Iterator[Trial]:
    """The process with a cluster as ``wanted``; it ends when its input does."""
    command = [sys.executable, "-m", "deploy.ray.local"]
    with subprocess.Popen(  # noqa: S603 - ourselves
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        cluster = Trial(process, f"http://127.0.0.1:{wanted['port']}")
        try:
            cluster._tell(wanted)
            yield cluster
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()  # Ray's reaper ends the rest


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What the nodes inherit."""
    lines = (ROOT / "deploy/ray/node.env").read_text().splitlines()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("EXITRAMP_")},
        **dict(line.split("=", 1) for line in lines if not line.startswith("#")),
        **{f"EXITRAMP_{name}": value for name, value in settings.items()},
        "PYTHONPATH": str(ROOT),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the default elsewhere; it keeps Ray on 127.0.0.1
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # 5 by default; tests run on busy machines
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
