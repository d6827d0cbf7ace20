"""When a failed attempt is made again, and how long after.

| outcome of the attempt     | made again                                     |
| -------------------------- | ---------------------------------------------- |
| `Ok`, `Refused`            | never                                          |
| `Unavailable`, local       | never in place: it says "not now"              |
| `Unavailable`              | yes                                            |
| `Unknown`                  | only where the call is repeatable              |

and only while all of these hold: attempts are left; the outcome is not marked `final` by a layer
below; this call is not itself part of a retry of a layer above (`Context.attempt` above 1); the
callee did not ask us to stop (a negative `retry_after`); the pause ends before the deadline; the
retry budget pays.

The pause before attempt n + 1 is random, so that callers who fail together do not come back
together. With `step = min(cap, base * 2**(n-1))` and u uniform in [0, 1):

    full          u * step                       (the default)
    equal         step / 2 + u * step / 2
    decorrelated  min(cap, base + u * (3 * previous - base))

where the callee said when to come back, that time is waited first and the pause added to it. The
formulas are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from switchgear.model.outcome import Outcome, Unavailable, Unknown
from switchgear.policy.settings import Seconds, Settings, allow, one_of, ordered, seconds, settle

__all__ = ["Jitter", "Retry", "pause", "worth_retrying"]

Jitter = Literal["full", "equal", "decorrelated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Settings):
    """How often and how soon an attempt that failed is made again."""

    attempts: int = 3
    """Attempts in all, the first one included; 1 never retries. 1 to 100."""
    base: Seconds = 0.1
    """Longest pause before the second attempt; it doubles from there. Seconds, above 0."""
    cap: Seconds = 10.0
    """No pause is longer, except where the callee asks for more. Seconds."""
    jitter: Jitter = "full"

    def __post_init__(self) -> None:
        settle(self, "base", "cap")
        allow(self, "attempts", 1, 100)
        allow(self, "base", 0, above=True)
        ordered(self, "base", "cap")
        one_of(self, "jitter", ("full", "equal", "decorrelated"))


def worth_retrying(outcome: Outcome[object], *, repeatable: bool) -> bool:
    """Tell whether an attempt that ended so may be made again, as far as its outcome goes."""
    if isinstance(outcome, Unavailable):
        return not outcome.local
    return isinstance(outcome, Unknown) and repeatable


def pause(
    settings: Retry, number: int, previous: float, asked: float | None, random: Callable[[], float]
) -> float:
    """Return the seconds to wait after attempt `number` has failed.

    `previous` is the pause before that attempt (0 before the first), `asked` what the callee asked
    for, `random` a source of numbers in [0, 1).
    """
    base, cap = seconds(settings.base), seconds(settings.cap)
    # the exponent is bounded only so that 100 attempts do not overflow a float's patience
    step = min(cap, base * 2.0 ** min(number - 1, 60))
    if settings.jitter == "full":
        wait = random() * step
    elif settings.jitter == "equal":
        wait = step / 2 + random() * step / 2
    else:
        wait = min(cap, base + random() * (max(3 * previous, base) - base))
    return wait if asked is None else asked + wait
