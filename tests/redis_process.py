"""A real Redis for the tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = 60
"""Patience with the start of Redis on a busy machine, seconds."""


class RedisProcess:
    """A ``redis-server`` on a loopback port of its own that keeps nothing on disk."""

    def __init__(self, program: str, folder: Path) -> None:
        """Choose a port; ``start`` starts it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline_s, "Redis never answered"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep it from running: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def tell(self, command: str) -> str:
        """Its answer to a command of its administrator."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(4096).decode().strip()

    def _answers(self) -> bool:
        try:
            return self.tell("PING") == "+PONG"
        except OSError:
            return False


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisProcess]:
    """A Redis until the end of the block; where none is installed the test is skipped."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    redis = RedisProcess(program, folder)
    try:
        redis.start()
        yield redis
    finally:
        redis.stop()
