"""A quantile of what was measured lately, from counts alone.

The rules
---------
A duration falls into the bin `floor(log2(seconds) * BINS)`, so each bin is 2**(1/BINS) wide: with
8 bins a doubling, an estimate is at most 9% too high and never too low, because the upper end of
the bin is told. Durations below a microsecond count as one.

Two halves of the window are kept. When the current half is over, the one before is forgotten and
the current one takes its place, so an estimate looks back between half a window and a whole one.
Time that runs backwards counts as the latest time seen.
"""

from __future__ import annotations

from math import ceil, floor, log2
from typing import Final

__all__ = ["BINS", "Durations"]

BINS: Final = 8
_LEAST: Final = 1e-6


class Durations:
    """Durations of the last `window` seconds, in bins."""

    __slots__ = ("_before", "_bins", "_half", "_until", "count")

    def __init__(self, window: float) -> None:
        self._half = window / 2
        self._until = 0.0
        """When the current half ends."""
        self._bins: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self.count = 0
        """How many durations both halves hold."""

    def add(self, now: float, took: float) -> None:
        """Count one duration, in seconds."""
        if now >= self._until:
            self._turn(now)
        place = floor(log2(max(_LEAST, took)) * BINS)
        self._bins[place] = self._bins.get(place, 0) + 1
        self.count += 1

    def at(self, now: float, share: float) -> float | None:
        """Return the duration that `share` of them do not exceed; None: there are none."""
        if now >= self._until:
            self._turn(now)
        if not self.count:
            return None
        wanted, seen = ceil(share * self.count), 0
        for place in sorted(self._bins.keys() | self._before.keys()):
            seen += self._bins.get(place, 0) + self._before.get(place, 0)
            if seen >= wanted:
                return float(2.0 ** ((place + 1) / BINS))
        return None

    def _turn(self, now: float) -> None:
        """Begin a new half; the last one stays only if it has just ended."""
        fresh = now < self._until + self._half
        self._before = self._bins if fresh else {}
        self._bins = {}
        self._until = now + self._half
        self.count = sum(self._before.values())
