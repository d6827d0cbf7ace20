"""How many events share one transaction: many quick ones, one slow one.

A commit costs a flush to disk, whatever was written. Quick handlers therefore share a transaction,
one after the other; a handler that takes long gets its own, so that it runs beside others and holds
no lock for their sake. The measure is the mean time that recent handlers took, newer ones counting
more, without the time for which they waited for the database's writer: that waiting is what slow
commits cause, and sharing them is the cure.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BUDGET", "Pace"]

BUDGET: Final = 0.03
"""Seconds that the events of one transaction may take together."""

_WEIGHT: Final = 0.05


class Pace:
    """The pace of one subscription. `most` bounds how many events share a transaction."""

    def __init__(self, most: int = 512) -> None:
        self._most = most
        self._mean = BUDGET  # until it is known to be quick, each gets its own

    def took(self, seconds: float, events: int = 1) -> None:
        """Take note that the handlers of so many events took so long together."""
        if events:
            mean = seconds / events
            self._mean = mean + (self._mean - mean) * (1.0 - _WEIGHT) ** events

    def limit(self) -> int:
        """Return how many events to give to the next transaction."""
        return max(1, min(self._most, int(BUDGET / max(self._mean, 1e-6))))
