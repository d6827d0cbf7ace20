"""Counting what happened lately, without keeping each event.

The rules
---------
A window of `seconds` is cut into `SLOTS` equal slots; an event belongs to the slot
`floor(time / slot)`. At time `now` the window holds the current slot and the `SLOTS - 1` before it,
so it looks back between 90% and 100% of its length, and an old event leaves with its whole slot.

A `Tally` counts two kinds of event (good and bad, or deposits and withdrawals) over one or more
windows at once. What arrives inside one slot of every window is one addition; only when time
crosses an edge of a slot are the windows themselves touched. Totals are kept as they change, so
reading them is O(1).

Time that runs backwards (two threads that read the clock and arrive in the other order) counts as
the latest time seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

__all__ = ["SLOTS", "Tally"]

SLOTS = 10


class _Ring:
    __slots__ = ("bads", "goods", "newest", "slot", "total_bad", "total_good")

    def __init__(self, seconds: float) -> None:
        self.slot = seconds / SLOTS
        self.newest = 0
        self.goods = [0] * SLOTS
        self.bads = [0] * SLOTS
        self.total_good = 0
        self.total_bad = 0

    def copy(self) -> _Ring:
        """Return another ring that holds the same."""
        other = copy(self)
        other.goods, other.bads = self.goods[:], self.bads[:]
        return other

    def advance(self, now: float) -> float:
        """Forget the slots that have left the window; return when the current one ends."""
        index = int(now // self.slot)
        for stale in range(max(self.newest, index - SLOTS) + 1, index + 1):
            place = stale % SLOTS
            self.total_good -= self.goods[place]
            self.total_bad -= self.bads[place]
            self.goods[place] = self.bads[place] = 0
        self.newest = max(index, self.newest)
        return (self.newest + 1) * self.slot

    def add(self, good: int, bad: int) -> None:
        place = self.newest % SLOTS
        self.goods[place] += good
        self.bads[place] += bad
        self.total_good += good
        self.total_bad += bad

    def take_back(self, index: int) -> None:
        """Forget one good event of a slot, if it is in the window."""
        place = index % SLOTS
        if self.newest - SLOTS < index <= self.newest and self.goods[place]:
            self.goods[place] -= 1
            self.total_good -= 1


class Tally:
    """Counts of good and bad events over one or more windows of the given lengths in seconds."""

    __slots__ = ("_lengths", "_rings", "bad", "edge", "good")

    def __init__(self, lengths: Sequence[float]) -> None:
        self._lengths = tuple(lengths)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._rings = tuple(_Ring(length) for length in self._lengths)
        self.edge = 0.0
        """Until then an event is one addition to `good` or `bad`, which callers in a hurry do."""
        self.good = 0
        self.bad = 0

    def resized(self, lengths: Sequence[float]) -> Tally:
        """Return a tally over other windows that goes on from what this one holds.

        A window of a new length begins with what the longest of the shorter ones holds, or else
        with nothing: what a longer one holds may have happened before.
        """
        after = Tally(lengths)
        if tuple(lengths) == self._lengths:
            after._rings = tuple(ring.copy() for ring in self._rings)
            after.edge, after.good, after.bad = self.edge, self.good, self.bad
            return after
        for ring, length in zip(after._rings, lengths, strict=True):
            shorter = [
                one for one in zip(self._lengths, self._rings, strict=True) if one[0] <= length
            ]
            if shorter:
                _, before = max(shorter, key=lambda one: one[0])
                ring.advance(before.newest * before.slot)
                ring.add(before.total_good + self.good, before.total_bad + self.bad)
        return after

    def add_good(self, now: float) -> None:
        """Count one good event."""
        if now >= self.edge:
            self._advance(now)
        self.good += 1

    def add_bad(self, now: float) -> None:
        """Count one bad event."""
        if now >= self.edge:
            self._advance(now)
        self.bad += 1

    def take_back(self, now: float, when: float) -> None:
        """Count one good event of `when` no longer, where a window still holds it."""
        self._advance(now)
        for ring in self._rings:
            ring.take_back(int(when // ring.slot))

    def totals(self, now: float) -> list[tuple[int, int]]:
        """Return (good, bad) for each window, in the order of the lengths."""
        if now >= self.edge:
            self._advance(now)
        good, bad = self.good, self.bad
        return [(ring.total_good + good, ring.total_bad + bad) for ring in self._rings]

    def _advance(self, now: float) -> None:
        # what is pending arrived before the nearest edge, so inside one slot of every ring
        if self.good or self.bad:
            for ring in self._rings:
                ring.add(self.good, self.bad)
            self.good = self.bad = 0
        self.edge = min(ring.advance(now) for ring in self._rings)
