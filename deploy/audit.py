"""Known vulnerabilities of the packages that ``constraints.txt`` pins: ``make audit``.

pip-audit asks PyPI for each of them. A vulnerability fails. A package about which nothing could be learnt
does not, so that the checks run without a network; it is named, so that nobody takes it for sound.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

PINNED: Final = Path(__file__).parent.parent / "constraints.txt"

COMMAND: Final = (
    *(sys.executable, "-m", "pip_audit", "--requirement", str(PINNED), "--no-deps", "--disable-pip"),
    *("--format", "json", "--desc", "off", "--progress-spinner", "off"),
)
"""What is pinned and nothing else: the file is complete, so no resolver has to run."""

UNREACHABLE: Final = re.compile(r"ConnectionError|Timeout|network may be blocking")
"""How pip-audit's complaint looks where there is no network."""

NAMED: Final = 5
"""Packages that could not be audited and are named; of more there is a count."""


def judge(report: str, complaint: str = "") -> tuple[list[str], bool]:
    """What to say of a run of pip-audit, and whether it is a failure.

    Args:
        report: Its standard output, JSON; empty if it gave up.
        complaint: Its standard error.
    """
    if not report.strip():
        last = (complaint.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return [f"not audited: {last}"], UNREACHABLE.search(complaint) is None
    packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    audited = [package for package in packages if "skip_reason" not in package]
    lines = [_describe(package, flaw) for package in audited for flaw in package["vulns"]]
    vulnerable = bool(lines)
    lines.append(f"audited: {len(audited)} of {len(packages)} packages, {len(lines)} known vulnerabilities")
    if skipped:
        more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        lines.append(f"not audited: PyPI had no answer about {', '.join(skipped[:NAMED])}{more}")
    return lines, vulnerable or not packages


def _describe(package: dict[str, Any], flaw: dict[str, Any]) -> str:
    mended = ", ".join(flaw["fix_versions"]) or "no version yet"
    return f"vulnerable: {package['name']} {package['version']}, {flaw['id']}; mended in {mended}"


def main(command: Sequence[str] = COMMAND) -> int:
    """Audit and say what was found; 1 for a vulnerability, or if pip-audit could not do its work."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    lines, failed = judge(done.stdout, done.stderr)
    sys.stdout.write("\n".join(lines) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
