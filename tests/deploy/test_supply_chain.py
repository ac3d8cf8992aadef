"""What the code is made of: audited where the advisories can be reached, and no secret in it."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.audit import judge, main
from deploy.leaks import committed, leaks

ROOT = Path(__file__).parents[2]

SOUND = {"name": "pillow", "version": "13.0.0", "vulns": []}
FLAWED = {
    "name": "starlette",
    "version": "0.40.0",
    "vulns": [{"id": "CVE-2025-0001", "fix_versions": ["0.47.2"]}, {"id": "PYSEC-7", "fix_versions": []}],
}
SKIPPED = [{"name": f"package-{i}", "skip_reason": "Dependency not found on PyPI"} for i in range(7)]

FLOORS = {"python-multipart": (0, 0, 31), "starlette": (1, 3, 1)}
"""Older ones have known denial-of-service bugs."""


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("#")[0].split("."))


def test_a_known_vulnerability_fails_and_is_named_with_what_mends_it() -> None:
    lines, failed = judge(report(SOUND, FLAWED))
    assert failed
    assert lines == [
        "vulnerable: starlette 0.40.0, CVE-2025-0001; mended in 0.47.2",
        "vulnerable: starlette 0.40.0, PYSEC-7; mended in no version yet",
        "audited: 2 of 2 packages, 2 known vulnerabilities",
    ]


def test_no_vulnerability_passes() -> None:
    assert judge(report(SOUND)) == (["audited: 1 of 1 packages, 0 known vulnerabilities"], False)


def test_what_could_not_be_audited_is_said_and_does_not_fail() -> None:
    lines, failed = judge(report(*SKIPPED))
    assert not failed
    assert lines == [
        "audited: 0 of 7 packages, 0 known vulnerabilities",
        "not audited: PyPI had no answer about "
        "package-0, package-1, package-2, package-3, package-4 and 2 more",
    ]


def test_a_vulnerability_is_not_lost_among_packages_that_could_not_be_audited() -> None:
    lines, failed = judge(report(*SKIPPED[:3], FLAWED, *SKIPPED[3:]))
    assert failed
    assert [line.partition(":")[0] for line in lines] == [
        "vulnerable",
        "vulnerable",
        "audited",
        "not audited",
    ]


@pytest.mark.parametrize(
    ("complaint", "fails"),
    [
        ("Traceback …\nrequests.exceptions.ConnectionError: Name or service not known", False),
        ("ERROR:pip_audit._cli:Tip: your network may be blocking this service. Try another …", False),
        ("requests.exceptions.ReadTimeout: Read timed out.", False),
        ("ERROR:pip_audit._cli:requirement file constraints.txt contains invalid specifier", True),
        ("No module named pip_audit", True),
        ("", True),
    ],
)
def test_without_a_report_only_a_missing_network_is_no_failure(complaint: str, fails: bool) -> None:
    lines, failed = judge("", complaint)
    assert failed is fails and lines[0].startswith("not audited: ") and len(lines) == 1


def test_an_audit_of_nothing_is_a_failure() -> None:
    assert judge(report())[1]


@pytest.mark.parametrize(("package", "code"), [(SOUND, 0), (FLAWED, 1)])
def test_the_exit_code_is_the_verdict(
    package: dict[str, Any], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    told = f"print({report(package)!r}); raise SystemExit({code})"
    assert main([sys.executable, "-c", told]) == code
    assert "audited: 1 of 1 packages" in capsys.readouterr().out


def test_what_is_pinned_is_not_older_than_what_mended_known_bugs() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    for name, floor in FLOORS.items():
        assert numbers(pinned[name]) >= floor, name


def test_what_may_be_installed_without_the_pins_is_not_older_either() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = dict(line.split(">=") for line in project["dependencies"])
    assert "python-multipart" in allowed
    for name in FLOORS.keys() & allowed.keys():
        assert numbers(allowed[name]) >= FLOORS[name], name


def test_a_new_secret_is_found_and_an_innocent_file_is_not_one(tmp_path: Path) -> None:
    # In pieces, or the scan would find them here.
    (tmp_path / "leak.py").write_text(f'aws = "{"AKIA" + "Z7QJ4XWK2M5RB3TD"}"\n')
    (tmp_path / "leak.json").write_text(f'{{"password": "{"hunter" + "2-x9Qr7L"}"}}\n')
    (tmp_path / "innocent.json").write_text(f' "weights_sha256": "{"0123456789abcdef" * 4}",\n')
    (tmp_path / ".hidden").write_text("not looked at where there is no git")
    names = committed(tmp_path)
    assert names == ["innocent.json", "leak.json", "leak.py"]
    found = leaks(tmp_path, names)
    assert {line.partition(": ")[0] for line in found} == {"leak.json:1", "leak.py:1"}
    assert "hunter" not in str(found)


def test_a_known_place_may_move_but_another_value_there_is_new(tmp_path: Path) -> None:
    name = "tests/service/test_client.py"
    text = (ROOT / name).read_text()
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("# a line more\n" + text)
    assert leaks(tmp_path, [name]) == []
    (tmp_path / name).write_text(text + f'password = "{"another-" + "hunter3"}"\n')
    assert len(leaks(tmp_path, [name])) == 1


def test_what_the_baseline_allows_is_known_and_nothing_asks_the_network() -> None:
    baseline = json.loads((ROOT / ".secrets.baseline").read_text())
    allowed = {name: len(found) for name, found in baseline["results"].items()}
    assert sum(allowed.values()) <= 6 and all(
        name.startswith(("tests/", "deploy/kubernetes/")) for name in allowed
    )
    assert not [one for one in baseline["filters_used"] if "verification" in one["path"]]


def test_the_checks_include_both() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (check,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert "$(MAKE) secrets audit" in check
    assert "-m deploy.leaks" in makefile and "-m deploy.audit" in makefile
