"""SECURITY.md says what the code does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from model_store import containers, preprocess
from service.protocol import GuardedProtocol
from service.settings import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()
UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20}
ROW = re.compile(r"^\| [^|]+ \| ([\d,]+) ?(KiB|MiB|) \| `([\w.]+)` \| [^|]+ \|$", re.MULTILINE)
LIMITS = {name: int(number.replace(",", "")) * UNITS[unit] for number, unit, name in ROW.findall(TEXT)}


def default(of: Any, name: str) -> Any:
    """The value of a constant, or the default of a field of a model."""
    if isinstance(of, type) and issubclass(of, BaseModel):
        return of.model_fields[name].default
    return getattr(of, name)


def in_the_code(name: str) -> Any:
    """The limit of this name: a setting, a constant of a module, or of a class in one."""
    if name.startswith("EXITRAMP_"):
        return default(Settings, name.removeprefix("EXITRAMP_").lower())
    place, _, last = name.rpartition(".")
    module, _, kind = place.rpartition(".")
    owner = getattr(importlib.import_module(module), kind) if kind[0].isupper() else None
    return default(owner or importlib.import_module(place), last)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_the_codes(name: str) -> None:
    assert LIMITS[name] == in_the_code(name)


def test_every_row_of_the_table_is_read() -> None:
    table = TEXT.partition("## Limits")[2].partition("## ")[0]
    assert len(LIMITS) == table.count("\n| ") - 1 > 20  # the heading is none


def test_no_limit_of_connections_and_images_is_left_out() -> None:
    wanted = {
        f"service.protocol.GuardedProtocol.{name}"
        for name, value in vars(GuardedProtocol).items()
        if isinstance(value, int | float) and not name.startswith("_")
    }
    wanted |= {f"model_store.preprocess.ImageLimits.{name}" for name in preprocess.ImageLimits.model_fields}
    for module in (preprocess, containers):
        limits = (name for name in vars(module) if name.startswith("MAX_"))
        wanted |= {f"{module.__name__}.{name}" for name in limits}
    wanted |= {f"EXITRAMP_{name.upper()}" for name in Settings.model_fields if name.startswith("max_")}
    batching = {"EXITRAMP_MAX_BATCH", "EXITRAMP_MAX_WAIT_S"}  # these defend nothing
    assert wanted - batching - LIMITS.keys() == set()


def test_every_setting_that_it_names_exists() -> None:
    named = {name.lower() for name in re.findall(r"EXITRAMP_(\w+)", TEXT)}
    assert named and named <= Settings.model_fields.keys()
