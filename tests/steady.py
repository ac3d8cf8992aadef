"""Users who ask steadily while something happens, and what they were told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np

TIMEOUT_S = 60


@dataclass
class Answers:
    """What came, in the order of the answers.

    Attributes:
        statuses: HTTP status of each, or the name of the error in its place.
        seconds: From the moment in which each request was due.
    """

    statuses: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def failures(self) -> Counter[str]:
        """All that is no 200."""
        return Counter(status for status in self.statuses if status != "200")

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.seconds, 99)) * 1000

    def since(self, count: int) -> Answers:
        """Those behind the first ``count``."""
        return Answers(self.statuses[count:], self.seconds[count:])

    def await_more(self, count: int, patience_s: float = TIMEOUT_S) -> None:
        """Wait for ``count`` more of them."""
        wanted, deadline_s = len(self.statuses) + count, time.monotonic() + patience_s
        while len(self.statuses) < wanted:
            assert time.monotonic() < deadline_s, f"{len(self.statuses)} of {wanted} answers came"
            time.sleep(0.01)


@contextmanager
def asking(
    url: str, image: bytes, rate: float, users: int = 4, headers: Mapping[str, str] | None = None
) -> Iterator[Answers]:
    """``users`` who send ``image`` ``rate`` times a second together, until the end of the block.

    Each has one connection and one request at a time; a late answer makes those behind it late.
    """
    answers, over = Answers(), threading.Event()

    def ask(number: int) -> None:
        every_s = users / rate
        due_s = time.monotonic() + number / rate
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers) as client:
            while not over.wait(max(0.0, due_s - time.monotonic())):
                try:
                    status = str(client.post("/classify", content=image).status_code)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                answers.seconds.append(time.monotonic() - due_s)
                answers.statuses.append(status)
                due_s += every_s

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()
