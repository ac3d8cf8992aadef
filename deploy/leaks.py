"""Secrets in what is committed: ``make secrets``.

detect-secrets looks at every tracked file, or where there is no git at every file that is not hidden. It asks
nobody. ``.secrets.baseline`` holds what looks like a secret and is none. To allow another one::

    detect-secrets scan --slim --no-verify --baseline .secrets.baseline
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from detect_secrets.core import baseline
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.util.git import get_tracked_files

ROOT: Final = Path(__file__).parent.parent

BASELINE: Final = ROOT / ".secrets.baseline"


def committed(root: Path) -> list[str]:
    """The files to look at below ``root``, relative to it."""
    tracked = get_tracked_files(str(root))
    if not tracked:
        every = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        tracked = {str(path) for path in every if not any(part.startswith(".") for part in path.parts)}
    return sorted(name for name in tracked if (root / name).is_file())


def leaks(root: Path, names: Sequence[str], known: Path = BASELINE) -> list[str]:
    """Places and kinds of secrets in files of ``root`` that are not in the baseline ``known``."""
    allowed = baseline.load(baseline.load_from_file(str(known)), str(known))  # its filters and plugins, too
    found = SecretsCollection(root=str(root))
    found.scan_files(*names)
    innocent = {(name, secret.type, secret.secret_hash) for name, secret in allowed}  # wherever in the file
    return [
        f"{name}:{secret.line_number}: {secret.type}"
        for name, secret in found
        if (name, secret.type, secret.secret_hash) not in innocent
    ]


def main() -> int:
    """Look and say what was found; 1 if anything was."""
    names = committed(ROOT)
    found = leaks(ROOT, names)
    sys.stdout.write("\n".join([*found, f"secrets: {len(names)} files, {len(found)} new\n"]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
