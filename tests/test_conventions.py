"""Conventions that hold for the whole tree, as tests."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ("deploy", "loadtest", "model_store", "service")
    for path in sorted((ROOT / room).rglob("*.py"))
}

FORBIDDEN = [
    # (who, must not import)
    ("deploy.ray", ("model_store", "service.routes", "service.engine", "torch")),
    ("model_store", ("service", "fastapi", "starlette", "uvicorn", "prometheus_client")),
    (
        "model_store.nets",
        ("model_store.training", "model_store.store", "model_store.manifest", "model_store.policy"),
    ),
    ("model_store.exits", ("model_store.training", "model_store.store", "model_store.policy")),
    ("model_store.preprocess", ("torch", "model_store.training", "model_store.store", "model_store.policy")),
    ("model_store.store", ("model_store.training",)),
    ("model_store.manifest", ("model_store.training", "model_store.store")),
    ("model_store.ledger", ("torch", "time", "threading", "asyncio")),
    (
        "service.engine",
        (
            *("fastapi", "starlette", "service.routes", "service.app", "service.schemas", "orjson"),
            "service.front",
        ),
    ),
    ("service.engine.queue", ("torch", "time", "threading", "asyncio")),
    ("service.engine.scheduler", ("torch", "time", "threading", "asyncio")),
    ("service.engine.group", ("torch", "time", "threading", "asyncio")),
    ("service.simulation", ("fastapi", "starlette", "service.routes", "service.app", "time", "asyncio")),
    ("service.routes", ("torch", "openvino", "service.app", "service.front")),
]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


@pytest.mark.parametrize(("room", "forbidden"), FORBIDDEN, ids=[room for room, _ in FORBIDDEN])
def test_imports_go_one_way(room: str, forbidden: tuple[str, ...]) -> None:
    seen = {name: path for name, path in MODULES.items() if within(name, room)}
    assert seen, f"{room} is gone; mend the list"
    for name, path in seen.items():
        crossing = {target for target in imports_of(path) for wall in forbidden if within(target, wall)}
        assert not crossing, f"{name} imports {crossing}"


def test_the_client_imports_nothing_but_httpx_and_the_standard_library() -> None:
    seen = {name: path for name, path in MODULES.items() if within(name, "service.client")}
    assert seen, "service.client is gone"
    allowed = {"httpx", *sys.stdlib_module_names}
    for name, path in seen.items():
        others = {target for target in imports_of(path) if not within(target, "service.client")}
        foreign = {target for target in others if target.partition(".")[0] not in allowed}
        assert not foreign, f"{name} imports {foreign}"


def test_the_load_test_imports_nothing_of_ours() -> None:
    for path in (ROOT / "loadtest").rglob("*.py"):
        assert not {
            name for name in imports_of(path) if within(name, "service") or within(name, "model_store")
        }


TESTS = {path.stem: path for path in sorted((ROOT / "tests").rglob("*.py"))}


@pytest.mark.parametrize("path", [*MODULES.values(), *TESTS.values()], ids=[*MODULES, *TESTS])
def test_files_and_functions_stay_short(path: Path) -> None:
    """A function is counted from its body on: typed signatures of commands are data."""
    source = path.read_text()
    assert len(source.splitlines()) <= 250
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = node.body[1:] if ast.get_docstring(node) is not None else node.body
            first = code[0].lineno if code else node.lineno
            assert (node.end_lineno or 0) - first + 1 <= 40, f"{path.name}: {node.name}"


def test_only_the_settings_read_the_environment() -> None:
    for name, path in MODULES.items():
        # A generator of load is no service; a trial hands its own environment to a process.
        if name not in ("service.settings", "deploy.ray.trial") and not within(name, "loadtest"):
            source = path.read_text()
            assert "os.environ" not in source and "getenv" not in source, name


def test_every_error_code_is_in_the_readme() -> None:
    from service import errors

    readme = (ROOT / "README.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if isinstance(getattr(kind, "code", None), str)}
    assert len(codes) >= 15
    assert not {code for code in codes if f"`{code}`" not in readme}


def test_every_setting_is_in_the_readme_and_says_its_consequence() -> None:
    from service.settings import Settings

    readme = (ROOT / "README.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"EXITRAMP_{name.upper()}" in readme, name
        assert field.description and len(field.description) > 40, name


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        one for extra in project["optional-dependencies"].values() for one in extra
    ]
    names = {re.split(r"[\[>=]", line)[0].lower().replace("_", "-") for line in wanted} - {"exitramp"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert len(names) > 20 and not names - pinned


def test_every_module_of_tests_has_a_name_of_its_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_no_module_has_an_empty_name() -> None:
    banned = ("utils", "helpers", "manager")
    assert not [name for name in MODULES if name.rpartition(".")[2] in banned]


def test_every_room_and_every_module_at_its_door_is_in_the_architecture() -> None:
    told = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in MODULES.values()}
    packages = {room.removeprefix("service/").removeprefix("model_store/") for room in rooms}
    assert not {room for room in packages if f"{room}/" not in told}
    doors = [path.name for name, path in MODULES.items() if name.count(".") == 1 and "deploy" not in name]
    ours = [name for name in doors if name != "__init__.py" and not (ROOT / "loadtest" / name).exists()]
    assert len(ours) > 40 and not [name for name in ours if name not in told]


def test_the_architecture_names_nothing_that_is_gone() -> None:
    told = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_0-9/]+\.(?:py|json))`", told))
    there = {
        path.relative_to(ROOT).as_posix()
        for room in ("service", "model_store", "tests")
        for path in (ROOT / room).rglob("*.*")
    }
    assert len(named) > 50
    assert not {name for name in named if not any(("/" + path).endswith("/" + name) for path in there)}
