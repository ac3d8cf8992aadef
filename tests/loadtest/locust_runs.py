"""Locust as a process, and a proxy whose answers are wrong."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from programs import tool

ROOT = Path(__file__).parents[2]


def locust(url: str, images: Path, key: str, seconds: int) -> tuple[int, str]:
    """The exit code and everything that was printed."""
    command = [tool("locust"), "-f", str(ROOT / "loadtest" / "locustfile.py"), "--host", url, "--headless"]
    command += ["--users", "4", "--spawn-rate", "4", "--run-time", f"{seconds}s", "--only-summary"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"EXITRAMP_LOADTEST_IMAGES": str(images), "EXITRAMP_LOADTEST_KEY": key}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=images
    )
    return done.returncode, done.stdout + done.stderr


@contextmanager
def lying(url: str) -> Iterator[str]:
    """A proxy of ``url`` that says of every image that it cost ten times as much and more."""

    class Liar(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.pass_on(httpx.get(f"{url}{self.path}"))

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            answer = httpx.post(f"{url}{self.path}", content=content, headers=dict(self.headers))
            self.pass_on(answer, answer.content.replace(b'"flops":', b'"flops":1'))

        def pass_on(self, answer: httpx.Response, body: bytes | None = None) -> None:
            body = answer.content if body is None else body
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
