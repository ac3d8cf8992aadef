"""A real server process for the tests, and a client for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import httpx

START_S = 120
"""Patience with the start of a server on a busy machine, seconds."""


WORKERS = os.environ.get("LIVE_HTTP_WORKERS", "1")
"""With 2 all tests of one server are tests of several processes."""


@dataclass
class Server:
    """A running ``exitramp serve``."""

    process: subprocess.Popen[str]
    client: httpx.Client
    url: str
    log: SimpleQueue[str] = field(default_factory=SimpleQueue)
    reading: Thread | None = None

    def event(self, patience_s: float = 60) -> dict[str, Any]:
        """The next line of its log."""
        line: dict[str, Any] = json.loads(self.log.get(timeout=patience_s))
        return line

    def rest_of_log(self) -> list[str]:
        """The lines that nobody has read yet, once it has ended: all that it said until then."""
        self.process.wait()
        if self.reading is not None:
            self.reading.join()
        return [self.log.get().rstrip("\n") for _ in range(self.log.qsize())]

    def metrics(self) -> dict[str, float]:
        """All samples of /metrics by their full name with labels."""
        text = self.client.get("/metrics").text
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def stop(self, patience_s: float = 20) -> int:
        """SIGTERM and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)


def start(settings: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a server with ``EXITRAMP_*`` settings (given without the prefix) on a free port."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EXITRAMP_")}
    environment |= {"EXITRAMP_PORT": "0", "EXITRAMP_HTTP_WORKERS": WORKERS}
    environment |= {**{f"EXITRAMP_{key}": value for key, value in settings.items()}}
    command = [str(Path(sys.executable).parent / "exitramp"), "serve"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@contextmanager
def serving(settings: Mapping[str, str], wait: bool = True) -> Iterator[Server]:
    """A server until the end of the block; ready, unless ``wait`` is false."""
    process, server = start(settings), None
    assert process.stderr is not None
    try:
        line = json.loads(process.stderr.readline())
        with httpx.Client(base_url=line["url"], timeout=60) as client:
            server = Server(process, client, line["url"])
            # A server whose log nobody reads stands still once the pipe is full.
            server.reading = Thread(target=_keep_log, args=(process.stderr, server.log))
            server.reading.start()
            deadline_s = time.monotonic() + START_S
            while wait and client.get("/readyz").status_code != 200:
                assert process.poll() is None and time.monotonic() < deadline_s, "the server never got ready"
                time.sleep(0.1)
            yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if server is not None and server.reading is not None:
            server.reading.join()
        process.stderr.close()


def _keep_log(lines: Iterable[str], log: SimpleQueue[str]) -> None:
    for line in lines:
        log.put(line)
