"""How many requests come, and when: a rate over time, and the arrivals that it makes.

| shape      | rate, in requests a second                                                     |
| ---------- | ------------------------------------------------------------------------------ |
| `Steady`   | always the same                                                                |
| `Steps`    | `(since, rate)`, each until the next; a spike is three of them                 |
| `Ramp`     | `low` until `begins`, then in a straight line to `high` at `ends`              |
| `Diurnal`  | a sine of one `day`, `swing` (0 to 1) around `mean`, highest at `peak`         |

Arrivals are a Poisson process of that rate, by thinning one of the highest rate (Lewis and Shedler,
1979); `evenly` gives arrivals at equal distances instead, as a load generator makes them.

These are open loads: who comes does not wait for those before. A load that waits cannot show an
overload.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

__all__ = ["Diurnal", "Load", "Ramp", "Steady", "Steps", "arrivals", "evenly", "spike"]

_LEAST = 1e-9
"""Requests a second below which nobody comes."""
_STRIDE = 1.0
"""Seconds to look ahead where nobody comes."""


class Load(Protocol):
    """A rate over time."""

    @property
    def highest(self) -> float:
        """No rate is above it."""
        ...

    def rate(self, now: float) -> float:
        """Return the requests a second at a time."""
        ...

    def settled(self) -> float:
        """Return the time from which the rate stays as it is; `inf` where it never does."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """The same rate all the time."""

    highest: float

    def rate(self, now: float) -> float:
        """Return the requests a second at a time."""
        del now
        return self.highest

    def settled(self) -> float:
        """Return the time from which the rate stays as it is."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Steps:
    """One rate after another: `(since, rate)`, in order of time, the first since 0."""

    steps: tuple[tuple[float, float], ...]

    @property
    def highest(self) -> float:
        """No rate is above it."""
        return max(rate for _, rate in self.steps)

    def rate(self, now: float) -> float:
        """Return the requests a second at a time."""
        current = 0.0
        for since, rate in self.steps:
            if now < since:
                break
            current = rate
        return current

    def settled(self) -> float:
        """Return the time from which the rate stays as it is."""
        return self.steps[-1][0]


def spike(base: float, peak: float, at: float, seconds: float) -> Steps:
    """Return a load of `base` that is `peak` for some seconds."""
    return Steps(((0.0, base), (at, peak), (at + seconds, base)))


@dataclass(frozen=True, slots=True)
class Ramp:
    """A straight line from one rate to another."""

    low: float
    high: float
    begins: float
    ends: float

    @property
    def highest(self) -> float:
        """No rate is above it."""
        return max(self.low, self.high)

    def rate(self, now: float) -> float:
        """Return the requests a second at a time."""
        if now <= self.begins:
            return self.low
        if now >= self.ends:
            return self.high
        return self.low + (self.high - self.low) * (now - self.begins) / (self.ends - self.begins)

    def settled(self) -> float:
        """Return the time from which the rate stays as it is."""
        return self.ends


@dataclass(frozen=True, slots=True)
class Diurnal:
    """Day and night."""

    mean: float
    swing: float
    day: float = 86_400.0
    peak: float = 0.0
    """When it is highest."""

    @property
    def highest(self) -> float:
        """No rate is above it."""
        return self.mean * (1 + self.swing)

    def rate(self, now: float) -> float:
        """Return the requests a second at a time."""
        return self.mean * (1 + self.swing * math.cos(2 * math.pi * (now - self.peak) / self.day))

    def settled(self) -> float:
        """Return the time from which the rate stays as it is."""
        return math.inf


def arrivals(load: Load, random: Random, until: float) -> Iterator[float]:
    """Yield the times of a Poisson process with the load's rate, before `until`."""
    chance, log = random.random, math.log
    highest = load.highest
    if highest < _LEAST:
        return
    gap, now = -1.0 / highest, 0.0
    if isinstance(load, Steady):
        while (now := now + gap * log(1.0 - chance())) < until:
            yield now
        return
    rate = load.rate
    while (now := now + gap * log(1.0 - chance())) < until:
        if chance() * highest < rate(now):
            yield now


def evenly(load: Load, until: float) -> Iterator[float]:
    """Yield times at equal distances, as far apart as the rate says, before `until`."""
    if isinstance(load, Steady):
        # counted, since a sum of distances would drift
        yield from (number / load.highest for number in range(round(load.highest * until)))
        return
    now = 0.0
    while now < until:
        rate = load.rate(now)
        if rate < _LEAST:
            now += _STRIDE
            continue
        yield now
        now += 1.0 / rate
