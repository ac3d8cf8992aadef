"""Whether and when a refused request is sent again. Times are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.client.errors import RetryLater

FIRST_PAUSE_S: Final = 0.5
"""Before the first retry where the answer names no time; doubled before each further one."""

LONGEST_PAUSE_S: Final = 8.0
"""At which the doubling ends."""


@dataclass(frozen=True)
class Patience:
    """How long to insist.

    Attributes:
        retries: How often a request is sent again at most; 0: never.
        total_s: No retry starts later than this many seconds after the first attempt.
    """

    retries: int
    total_s: float

    def pause_s(self, refused: RetryLater, retried: int, elapsed_s: float) -> float:
        """Seconds to wait before the request is sent again.

        Args:
            refused: The answer to the last attempt; the time that it names is kept.
            retried: How often the request was sent again already.
            elapsed_s: Seconds since the first attempt.

        Raises:
            RetryLater: ``refused``, as no retry is left or it would come too late.
        """
        pause_s = refused.retry_after_s
        if pause_s is None:
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(retried, 16))
        if retried >= self.retries or elapsed_s + pause_s > self.total_s:
            raise refused
        return pause_s
