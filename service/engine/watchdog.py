"""Notices launches that do not end. A device that hangs raises nothing, so somebody else must look."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from service.engine.health import Unwell
from service.engine.launches import Running

logger = logging.getLogger(__name__)


class Watchdog:
    """Looks at what the device is busy with. Belongs to the event loop.

    Whether the device hangs is seen by whoever asks. Beyond that there is one timer, and only while somebody
    waits or a launch runs, so that nothing wakes up when idle and no launch costs more: it fires when the
    launch that was running will have taken too long. Then those who wait are told. A launch that takes as
    long once more is given up, and the device with it.
    """

    def __init__(
        self,
        patience_s: float,
        running: Callable[[], Running | None],
        awaited: Callable[[], bool],
        on_hung: Callable[[Running, Unwell], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is looked at before the first ``check``.

        Args:
            patience_s: Longest time of a launch, seconds.
            running: What the device is busy with.
            awaited: Whether anybody waits for it.
            on_hung: Called once for each launch that takes longer, with what those who wait are to be told.
            on_lost: Called if it takes as long once more: only another process can mend that.
        """
        self._patience_s, self._running, self._awaited = patience_s, running, awaited
        self._on_hung, self._on_lost = on_hung, on_lost
        self._timer: asyncio.TimerHandle | None = None
        self._hung: Running | None = None

    def hangs(self) -> bool:
        """Whether the launch that is running takes too long; any thread may ask."""
        running = self._running()
        return running is not None and _elapsed_s(running) > self._patience_s

    def check(self) -> None:
        """Do nothing while the device answers; look after it from now on.

        Raises:
            Unwell: It hangs.
        """
        if self._timer is None:
            self._look()
        if self.hangs():
            raise self._unwell()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        running = self._running()
        if self._hung is not None and running is not self._hung:
            logger.warning("launch_returned", extra=_told(self._hung))
            self._hung = None
        elapsed_s = 0.0 if running is None else _elapsed_s(running)
        left_s = self._patience_s - elapsed_s
        if running is not None and left_s < 0:
            left_s = self._patience_s
            if self._hung is not None:
                self._on_lost(f"the device has not answered for {elapsed_s:.0f} s")
            else:
                logger.error("launch_hung", extra={**_told(running), "after_s": round(elapsed_s, 3)})
                self._hung = running
                self._on_hung(running, self._unwell())
        self._timer = asyncio.get_running_loop().call_later(left_s, self._again)

    def _again(self) -> None:
        """Look once more, unless there is nothing to look after."""
        self._timer = None
        if self._hung is not None or self._running() is not None or self._awaited():
            self._look()

    def _unwell(self) -> Unwell:
        return Unwell(f"the device has not answered for more than {self._patience_s:g} s", self._patience_s)


def _elapsed_s(running: Running) -> float:
    return time.monotonic() - running.started_s


def _told(running: Running) -> dict[str, object]:
    """A launch as the log has it."""
    return {"model": running.model, "span": str(running.span), "images": running.images}
