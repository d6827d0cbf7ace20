"""How long something takes, as a distribution to draw from.

| distribution       | says                                                        |
| ------------------ | ----------------------------------------------------------- |
| `Constant`         | always the same                                             |
| `Exponential`      | memoryless, by its mean                                     |
| `Uniform`          | anything between two bounds                                 |
| `Lognormal`        | most requests, by median and 99th percentile                |
| `Hyperexponential` | several kinds of request, each exponential: (share, mean)   |
| `Quantiles`        | what was measured: (share, value below which that share is) |

All are in seconds. A distribution is data; `sampler(random)` gives the function that draws from it,
which takes its random numbers from the generator it was given and from nowhere else.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import NormalDist
from typing import Protocol, TypeAlias

__all__ = [
    "Constant",
    "Distribution",
    "Draw",
    "Exponential",
    "Hyperexponential",
    "Lognormal",
    "Quantiles",
    "Uniform",
]

Draw: TypeAlias = Callable[[], float]

_Z99 = NormalDist().inv_cdf(0.99)


class Distribution(Protocol):
    """Something to draw durations from."""

    @property
    def mean(self) -> float:
        """Seconds in the mean."""
        ...

    def sampler(self, random: Random) -> Draw:
        """Return the function that draws, with `random` as the only source of chance."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    value: float

    @property
    def mean(self) -> float:
        """Seconds in the mean."""
        return self.value

    def sampler(self, random: Random) -> Draw:
        """Return the function that draws."""
        del random
        value = self.value
        return lambda: value


@dataclass(frozen=True, slots=True)
class Exponential:
    """Memoryless, by its mean."""

    mean: float

    def sampler(self, random: Random) -> Draw:
        """Return the function that draws."""
        chance, log, mean = random.random, math.log, -self.mean
        return lambda: mean * log(1.0 - chance())


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything between two bounds, all equally likely."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        """Seconds in the mean."""
        return (self.low + self.high) / 2

    def sampler(self, random: Random) -> Draw:
        """Return the function that draws."""
        chance, low, width = random.random, self.low, self.high - self.low
        return lambda: low + width * chance()


@dataclass(frozen=True, slots=True)
class Lognormal:
    """The shape of most service times, by what a dashboard shows: median and 99th percentile."""

    p50: float
    p99: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p99 / self.p50) / _Z99

    @property
    def mean(self) -> float:
        """Seconds in the mean."""
        return self.p50 * math.exp(self.sigma**2 / 2)

    def sampler(self, random: Random) -> Draw:
        """Return the function that draws."""
        gauss, exp, median, sigma = random.gauss, math.exp, self.p50, self.sigma
        return lambda: median * exp(sigma * gauss(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Hyperexponential:
    """Several kinds of request, each exponential: `(share, mean)` of every kind."""

    kinds: tuple[tuple[float, float], ...]

    @property
    def mean(self) -> float:
        """Seconds in the mean."""
        return sum(share * mean for share, mean in self.kinds)

    def sampler(self, random: Random) -> Draw:
        """Return the function that draws."""
        chance, log = random.random, math.log
        bounds, reached = [], 0.0
        for share, mean in self.kinds:
            reached += share
            bounds.append((reached, -mean))
        *most, (_, last) = bounds

        def draw() -> float:
            which = chance()
            for bound, mean in most:
                if which < bound:
                    return mean * log(1.0 - chance())
            return last * log(1.0 - chance())

        return draw


@dataclass(frozen=True, slots=True)
class Quantiles:
    """What was measured: `(share, value)`, straight lines in between.

    Below the first share every value is the first; above the last, the last.
    """

    points: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, measured: Sequence[float], steps: int = 200) -> Quantiles:
        """Return the distribution of what was measured, by so many quantiles at equal distances.

        Raises `ValueError` where nothing was measured.
        """
        if not measured:
            raise ValueError("there is no distribution of no values")
        ordered = sorted(measured)
        last = len(ordered) - 1
        shares = [step / steps for step in range(steps + 1)]
        return cls(tuple((share, ordered[round(share * last)]) for share in shares))

    @property
    def mean(self) -> float:
        """Seconds in the mean."""
        points = [(0.0, self.points[0][1]), *self.points, (1.0, self.points[-1][1])]
        return sum(
            (right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in pairwise(points)
        )

    def sampler(self, random: Random) -> Draw:
        """Return the function that draws."""
        chance = random.random
        shares = [share for share, _ in self.points]
        values = [value for _, value in self.points]
        last = len(shares) - 1

        def draw() -> float:
            share = chance()
            above = bisect_right(shares, share)
            if above == 0:
                return values[0]
            if above > last:
                return values[last]
            left, right = shares[above - 1], shares[above]
            low = values[above - 1]
            return low + (values[above] - low) * (share - left) / (right - left)

        return draw
