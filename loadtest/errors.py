"""What can go wrong with a measurement as a whole."""

from __future__ import annotations

import sys
from collections.abc import Callable

import aiohttp


class LoadTestError(Exception):
    """Nothing can be measured; the message is one line that says what to mend."""


def run_script(main: Callable[[], int]) -> int:
    """Run a script to its exit code; what keeps it from its work is one line."""
    try:
        return main()
    except (LoadTestError, OSError, aiohttp.ClientError) as error:
        sys.stderr.write(f"{error or type(error).__name__}\n")
        return 1
