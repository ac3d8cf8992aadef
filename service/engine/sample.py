"""Samples of a given share, evenly spread."""

from __future__ import annotations


class Sample:
    """Picks a share of what comes by, the first one included."""

    def __init__(self, share: float) -> None:
        """Pick the ``share`` (0..1); 0 picks nothing."""
        self._share = share
        self._due = 1.0 - share

    def picks(self) -> bool:
        """Whether the next one is picked."""
        self._due += self._share
        picked = self._share > 0 and self._due > 1 - 1e-9  # a tenth ten times is not quite one
        self._due -= picked
        return picked
