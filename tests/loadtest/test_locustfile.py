"""What the Locust users need where there is nothing but Locust."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_container_has_every_module_of_ours_that_the_users_need() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (copied,) = re.findall(r"^COPY (loadtest/.*) \./$", dockerfile, flags=re.MULTILINE)
    seen, waiting = set(), {"loadtest/__init__.py", "loadtest/locustfile.py"}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("loadtest"):
                waiting |= {f"{str(node.module).replace('.', '/')}.py"} - seen
    assert seen == set(copied.split()) and "PYTHONPATH=/ " in dockerfile
