"""Nothing phones home: with the network cut everything works, and nobody tries to reach any other machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SmallStore
from programs import tool

ROOT = Path(__file__).parents[2]

CALLS = re.compile(
    r"(connect|sendto|sendmsg|sendmmsg)\(\d+.*?"
    r"(?:sin_port=htons\((\d+)\).*?inet_addr\(\"([^\"]+)\"|sin6_port=htons\((\d+)\).*?\"([0-9a-f:.]+)\")"
)
"""A call that names an address of the Internet protocols, as strace writes it."""

DNS = "53"

CONVERT = """
import torch
from service.engine.openvino_import import openvino
import service.engine.nncf_import  # what quantizing imports
openvino.convert_model(torch.nn.Linear(2, 2).eval(), example_input=torch.zeros(1, 2))
print("converted")
"""

SERVE = """
import sys
from live import serving

settings = {"MODEL_STORE": sys.argv[1], "CACHE_DIR": sys.argv[2], "MODELS": '["small"]', "THREADS": "1"}
with serving({**settings, "EXECUTOR": "openvino"}) as server:
    image = open(sys.argv[3], "rb").read()
    for path in ("/classify", "/explain"):
        server.client.post(path, content=image).raise_for_status()
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/models", "/v2"):
        server.client.get(path).raise_for_status()
    assert server.stop() == 0
print("served")
"""

ASK = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 443))"
"""Sends nothing, but says where it would: TEST-NET-1 of RFC 5737 is nobody's."""


def outward(trace: str) -> list[str]:
    """Calls to other machines, and to any name server, wherever it is."""
    found = []
    for call in CALLS.finditer(trace):
        port, address = (call[2] or call[4]), (call[3] or call[5])
        if port == DNS or not (address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")):
            found.append(f"{call[1]} {address} port {port}")
    return found


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[list[str]]:
    """What a command is started with to be cut off and watched; its trace is ``tmp_path / "trace"``."""
    strace, unshare, ip = tool("strace"), tool("unshare"), tool("ip")
    cut = [unshare, "--net", "sh", "-c", f'{ip} link set lo up && exec "$@"', "sh"]
    if subprocess.run([*cut, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a network namespace needs root")
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    yield [*cut, strace, "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(tmp_path / "trace")]


def run_python(before: list[str], code: str, *arguments: str | Path) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [*before, sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_an_attempt_is_seen_even_where_nothing_can_be_reached(watched: list[str], tmp_path: Path) -> None:
    subprocess.run([*watched, sys.executable, "-c", ASK], capture_output=True, check=False)
    assert outward((tmp_path / "trace").read_text()) == ["connect 192.0.2.1 port 443"]


def ipv4(address: str, port: int = 443) -> str:
    return f'{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr("{address}")}}, 16'


def ipv6(address: str) -> str:
    return f'{{sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "{address}", &sin6_addr)}}, 28'


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (f"7 connect(3, {ipv4('127.0.0.1')}) = 0", 0),
        (f"7 connect(3, {ipv4('127.0.0.53', 53)}) = 0", 1),  # a name server, though it is here
        (f'7 sendto(3, "x"..., 1, 0, {ipv4("192.0.2.1")}) = 1', 1),
        (f"7 connect(3, {ipv6('::1')}) = 0", 0),
        (f"7 connect(3, {ipv6('2001:db8::1')}) = -1 ENETUNREACH", 1),
        ('7 connect(3, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1', 0),
    ],
)
def test_what_is_another_machine(line: str, seen: int) -> None:
    assert len(outward(line)) == seen


@pytest.mark.soak
def test_the_service_starts_and_answers_without_a_network_and_seeks_nobody(
    watched: list[str], tmp_path: Path, small_store: SmallStore
) -> None:
    image = ROOT / "tests" / "images" / "ship.png"
    assert run_python(watched, SERVE, small_store.root, tmp_path / "cache", image) == "served\n"
    trace = (tmp_path / "trace").read_text()
    assert 'inet_addr("127.0.0.1")' in trace  # the test's own requests: it does see what goes on
    assert outward(trace) == []


@pytest.mark.soak
def test_converting_and_the_imports_of_quantizing_seek_nobody(watched: list[str], tmp_path: Path) -> None:
    assert "converted" in run_python(watched, CONVERT)
    assert outward((tmp_path / "trace").read_text()) == []
