"""What is written down during a run: how requests ended, second by second, and how long they took.

A request counts in the bin of time in which it arrived. How long it took goes into a histogram with
bins that grow by 1%, so a quantile is off by at most half a percent whatever its size, and
histograms of several runs add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

__all__ = ["Bin", "Book", "Histogram", "total"]

_FINE: Final = 100
"""Bins for each factor of e."""
_NEVER: Final = -10_000
"""The bin of what took no time at all."""


class Histogram:
    """Durations, by how long they were."""

    __slots__ = ("count", "counts", "sum")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self.sum += seconds
        place = int(math.log(seconds) * _FINE + 10_000) if seconds > 0 else _NEVER
        counts = self.counts
        counts[place] = counts.get(place, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Count all of another one too."""
        self.count += other.count
        self.sum += other.sum
        for place, count in other.counts.items():
            self.counts[place] = self.counts.get(place, 0) + count

    @property
    def mean(self) -> float:
        """Seconds in the mean; `nan` where there were none."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, share: float) -> float:
        """Return the seconds within which `share` of them ended; `nan` where there were none."""
        wanted, reached = share * self.count, 0
        for place in sorted(self.counts):
            reached += self.counts[place]
            if reached >= wanted:
                return 0.0 if place == _NEVER else math.exp((place + 0.5 - 10_000) / _FINE)
        return math.nan


class Bin:
    """What became of the requests that arrived in one stretch of time."""

    __slots__ = ("answered", "degraded", "ended", "failed", "good", "left", "offered")

    def __init__(self) -> None:
        self.offered = 0
        self.good = 0
        """Answered, and in time; degraded answers included."""
        self.degraded = 0
        self.failed = 0
        self.left = 0
        """Visitors who lost patience."""
        self.answered = Histogram()
        """How long answers took."""
        self.ended = Histogram()
        """How long it took until a visitor knew, or left, where there was no answer."""

    def answer(self, took: float, *, good: bool, degraded: bool) -> None:
        """Count an answer."""
        if good:
            self.good += 1
        if degraded:
            self.degraded += 1
        self.answered.add(took)

    def merge(self, other: Bin) -> None:
        """Count all of another one too."""
        self.offered += other.offered
        self.good += other.good
        self.degraded += other.degraded
        self.failed += other.failed
        self.left += other.left
        self.answered.merge(other.answered)
        self.ended.merge(other.ended)

    @property
    def share(self) -> float:
        """The share of good answers; `nan` where nobody came."""
        return self.good / self.offered if self.offered else math.nan

    @property
    def known(self) -> Histogram:
        """How long every visitor took, whatever the end."""
        whole = Histogram()
        whole.merge(self.answered)
        whole.merge(self.ended)
        return whole


class Book:
    """The bins of one entry, or of one reaction."""

    __slots__ = ("bins", "width", "within")

    def __init__(self, width: float, within: float = math.inf) -> None:
        self.width = width
        self.within = within
        self.bins: list[Bin] = []

    def at(self, began: float) -> Bin:
        """Return the bin of a time."""
        index = int(began / self.width)
        bins = self.bins
        while len(bins) <= index:
            bins.append(Bin())
        return bins[index]

    def answered(self, began: float, took: float, *, degraded: bool) -> None:
        """Count a request that was answered."""
        self.at(began).answer(took, good=took <= self.within, degraded=degraded)


def total(bins: Iterable[Bin]) -> Bin:
    """Return several bins as one."""
    whole = Bin()
    for one in bins:
        whole.merge(one)
    return whole
