"""A launch that does not end: who is told, when, and that nobody looks while there is nothing to see."""

from __future__ import annotations

import asyncio
import time

import pytest

from model_store.nets.staged import Span
from service.engine.health import Unwell
from service.engine.launches import Running
from service.engine.watchdog import Watchdog

PATIENCE_S = 0.1


class Device:
    """What a watchdog looks at, and what it says."""

    def __init__(self) -> None:
        self.running: Running | None = None
        self.awaited = False
        self.hung: list[Running] = []
        self.lost = asyncio.Event()
        self.watchdog = Watchdog(
            PATIENCE_S, lambda: self.running, lambda: self.awaited, self._on_hung, lambda _: self.lost.set()
        )

    def launch(self, seconds_ago: float = 0.0) -> None:
        self.running = Running(time.monotonic() - seconds_ago, "small@1", Span(0, 1), 3)

    def _on_hung(self, running: Running, reason: Unwell) -> None:
        assert reason.retry_after_s == PATIENCE_S and "0.1 s" in str(reason)
        self.hung.append(running)


async def until_idle(device: Device) -> None:
    while device.watchdog._timer is not None:
        await asyncio.sleep(0.01)


async def test_whoever_asks_while_a_launch_takes_too_long_is_refused() -> None:
    device = Device()
    device.watchdog.check()
    device.launch(PATIENCE_S / 2)
    device.watchdog.check()
    device.launch(PATIENCE_S * 2)
    with pytest.raises(Unwell):
        device.watchdog.check()
    device.running = None
    device.watchdog.check()
    device.watchdog.stop()


async def test_a_launch_that_never_ends_is_told_once_and_then_the_device_is_lost() -> None:
    device = Device()
    device.awaited = True
    device.watchdog.check()
    device.launch()
    started_s = time.monotonic()
    await asyncio.wait_for(device.lost.wait(), 30)
    assert time.monotonic() - started_s >= 2 * PATIENCE_S
    assert device.hung == [device.running]
    device.watchdog.stop()


async def test_a_launch_that_returns_late_is_forgiven(caplog: pytest.LogCaptureFixture) -> None:
    device = Device()
    device.launch(PATIENCE_S * 2)
    with pytest.raises(Unwell):
        device.watchdog.check()
    assert len(device.hung) == 1
    device.running = None
    await asyncio.wait_for(until_idle(device), 30)
    assert not device.lost.is_set()
    assert [record.message for record in caplog.records] == ["launch_hung", "launch_returned"]


async def test_there_is_no_timer_when_nobody_waits_and_nothing_runs() -> None:
    device = Device()
    device.watchdog.check()
    await asyncio.wait_for(until_idle(device), 30)
    device.launch()
    device.watchdog.check()
    await asyncio.sleep(PATIENCE_S / 2)
    device.running = None
    await asyncio.wait_for(until_idle(device), 30)
    assert device.hung == []
