"""What a handful of measurements says: quantiles, intervals, and what services in a row add up to.

Pure functions of numbers; where chance is needed the generator is an argument.

Sources of the rules: linear interpolation between order statistics is type 7 of Hyndman and Fan,
"Sample Quantiles in Statistical Packages" (1996); the interval of a share is Wilson's score
interval (1927); the interval of a quantile is the pair of order statistics that the binomial
distribution encloses (Hahn and Meeker, "Statistical Intervals", 5.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import NormalDist
from typing import NamedTuple

__all__ = [
    "Interval",
    "in_a_row",
    "quantile",
    "quantile_interval",
    "resampled_sums",
    "share_interval",
    "sum_quantiles",
]


class Interval(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Tell whether `value` lies inside."""
        return self.low <= value <= self.high


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie.

    Raises `ValueError` where there are no values: nothing measured is not zero.
    """
    if not values:
        raise ValueError("there is no quantile of no values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def quantile_interval(values: Sequence[float], share: float, confidence: float = 0.95) -> Interval:
    """Return the order statistics between which the true quantile lies with `confidence`."""
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise ValueError("there is no interval for a quantile of no values")
    reach = _z(confidence) * math.sqrt(n * share * (1 - share))
    low = max(0, math.floor(n * share - reach) - 1)
    high = min(n - 1, math.ceil(n * share + reach))
    return Interval(ordered[low], ordered[high])


def share_interval(hits: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return the interval in which the true share lies, given `hits` of `trials`."""
    if trials <= 0 or not 0 <= hits <= trials:
        raise ValueError(f"{hits} of {trials} is not a share")
    z = _z(confidence)
    share = hits / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))


def in_a_row(availabilities: Sequence[float]) -> float:
    """Return the availability of services that all have to answer: the product."""
    return math.prod(availabilities)


def sum_quantiles(
    parts: Sequence[Sequence[float]], shares: Sequence[float], *, step: float = 0.0005
) -> list[float]:
    """Return quantiles of the sum of independent parts, given what was measured of each.

    The measured distributions are laid on a grid of `step` (the unit of the values) and convolved,
    which is exact for the grid: what is lost is at most half a step a part.
    """
    total = [1.0]
    for part in parts:
        total = _convolved(total, _histogram(part, step))
    wanted = []
    for share in shares:
        reached = 0.0
        for cell, weight in enumerate(total):
            reached += weight
            if reached >= share - 1e-12:
                wanted.append(cell * step)
                break
    return wanted


def resampled_sums(parts: Sequence[Sequence[float]], count: int, chance: Random) -> list[float]:
    """Return `count` sums of one value drawn from each part: the same question by Monte Carlo."""
    return [sum(chance.choice(part) for part in parts) for _ in range(count)]


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _histogram(values: Sequence[float], step: float) -> list[float]:
    if not values:
        raise ValueError("there is no distribution of no values")
    cells = [round(value / step) for value in values]
    weights = [0.0] * (max(cells) + 1)
    for cell in cells:
        weights[cell] += 1 / len(values)
    return weights


def _convolved(left: Sequence[float], right: Sequence[float]) -> list[float]:
    total = [0.0] * (len(left) + len(right) - 1)
    present = [(cell, weight) for cell, weight in enumerate(right) if weight]
    for at, share in enumerate(left):
        if share:
            for cell, weight in present:
                total[at + cell] += share * weight
    return total
