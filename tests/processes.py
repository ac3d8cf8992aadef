"""Processes of a running server, as the system sees them."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """Processes that ``pid`` has started and that run."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def workers(pid: int, kind: str = "worker") -> list[int]:
    """HTTP processes of the supervisor ``pid``, or its ``engine``."""
    return [child for child in children(pid) if f"service.front.{kind}" in _command(child)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def cpu_ticks(pid: int) -> int:
    """Processor time of ``pid`` so far, all threads, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def is_running(pid: int) -> bool:
    """Whether ``pid`` is there and no zombie."""
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"
