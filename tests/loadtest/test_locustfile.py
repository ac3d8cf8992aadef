"""The Locust users need little, so that a container can be small."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_users_need_locust_and_pillow_and_two_files_of_the_package() -> None:
    found = set()
    for name in ("locustfile", "answers"):
        for node in ast.walk(ast.parse((ROOT / "loadtest" / f"{name}.py").read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module))
    foreign = {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign == {"PIL", "gevent", "locust", "locust.exception", "loadtest.answers"}
