"""What a scrape is told of the memory of a CUDA device."""

from __future__ import annotations

from math import isnan

import pytest
import torch

from service.engine.gpu import show_memory
from service.metrics import Metrics


def shown(metrics: Metrics) -> dict[str, float]:
    families = [family for family in metrics.registry.collect() if family.name == "exitramp_gpu_memory_bytes"]
    return {sample.labels["kind"]: sample.value for family in families for sample in family.samples}


def test_where_no_cuda_device_is_in_use_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: pytest.fail("asked"))
    metrics = Metrics()
    show_memory(metrics)
    assert shown(metrics) == {}


def test_every_scrape_asks_the_device_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 60
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 20)
    metrics = Metrics()
    show_memory(metrics)
    assert shown(metrics) == {"total": 100, "used": 40, "reserved": 30, "allocated": 20}
    free = 10
    assert shown(metrics)["used"] == 90


def test_a_device_that_fails_takes_no_other_metric_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> int:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for name in ("mem_get_info", "memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, fail)
    metrics = Metrics()
    show_memory(metrics)
    assert len(shown(metrics)) == 4 and all(map(isnan, shown(metrics).values()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_device_holds_what_was_allocated() -> None:
    held = torch.zeros(2**26, dtype=torch.uint8, device="cuda")
    metrics = Metrics()
    show_memory(metrics)
    told = shown(metrics)
    assert held.numel() <= told["allocated"] <= told["reserved"] <= told["used"] <= told["total"]
