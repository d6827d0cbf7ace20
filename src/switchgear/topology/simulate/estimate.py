"""What several runs say together: a mean, and the interval in which the true mean lies.

Runs with different seeds are independent, so Student's t distribution applies to their means. Its
quantiles are expanded around the normal ones (Abramowitz and Stegun, 26.7.5), which is right to a
part in a thousand from three degrees of freedom on; for one and two there are formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over runs."""

    mean: float
    low: float
    high: float
    """The ends of its 95% interval; both `mean` where there was one run only."""
    runs: int

    def holds(self, value: float) -> bool:
        """Tell whether a value lies inside the interval."""
        return self.low <= value <= self.high

    @property
    def reach(self) -> float:
        """How far the interval reaches each way, as a share of the mean."""
        return (self.high - self.low) / 2 / abs(self.mean) if self.mean else 0.0


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the mean of the runs' values and its interval; values that are `nan` do not count."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = fmean(known)
    if len(known) == 1 or math.isinf(mean):
        return Estimate(mean, mean, mean, len(known))
    reach = student(confidence, len(known) - 1) * stdev(known) / math.sqrt(len(known))
    return Estimate(mean, mean - reach, mean + reach, len(known))


def student(confidence: float, freedom: int) -> float:
    """Return t with P(-t < T < t) = confidence for Student's T of so many degrees of freedom."""
    share = 0.5 + confidence / 2
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:  # noqa: PLR2004  the formula is for two
        return (2 * share - 1) * math.sqrt(2 / (4 * share * (1 - share)))
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
