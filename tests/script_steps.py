"""What may happen to an engine, step by step, and the clock that such a script moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.engine.ticket import Prediction

LONGEST_S = 0.2
"""Longest launch, and the most that time passes at once."""


Fate = Literal["right", "raises", "out of memory", "all NaN", "one NaN"]


@dataclass(frozen=True)
class Arrive:
    """A request of some images; ``plan`` is an index into the plans of its model."""

    images: int
    plan: int
    deadline_s: float | None


@dataclass(frozen=True)
class Leave:
    """A client that is still waiting gives up."""

    who: int


@dataclass(frozen=True)
class Launch:
    """The launch that the device has begun ends like this, after ``seconds``."""

    fate: Fate
    seconds: float


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Reload:
    """From now on requests are for the other version of the model."""


Step = Arrive | Leave | Launch | Pass | Reload


class Clock:
    """Stands for the module ``time``: only the script moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class ClockedLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers follow a script's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def time(self) -> float:
        return self._clock.now_s


def same(row: Sequence[float], prediction: Prediction) -> bool:
    """Whether an answer is what a row of ``exits.read`` says, but for rounding in larger batches."""
    top = (len(row) - 1) // 2
    near = np.allclose(row[1 : 1 + top], prediction.probabilities, rtol=0, atol=1e-3)
    tied = top > 1 and row[1] - row[2] < 1e-3
    return bool(near) and (tied or int(row[1 + top]) == prediction.classes[0])
