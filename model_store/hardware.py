"""The machine that something was measured on, for people."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def hardware() -> str:
    """The accelerator, or the processor and its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    extra = " with AMX" if torch.cpu._is_amx_tile_supported() else ""
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}{extra}"
