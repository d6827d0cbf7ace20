"""What retries may cost: a share of what succeeds, plus a small reserve.

The rule, after Finagle's `RetryBudget`: over the last `window` seconds

    retries  <=  reserve + ratio * successes

A success (`Ok` or `Refused`: the callee answered) is a deposit; a retry or a hedge is a withdrawal.
The reserve lets a caller with little traffic retry at all. While the callee is down nothing is
deposited, so an outage is met with the reserve and what the minutes before it saved: load on the
callee is at most `(1 + ratio)` times the offered load plus the reserve per window.

Deposits and withdrawals leave the window by slots of a tenth (see `window.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from switchgear.policy.settings import Seconds, allow, described, seconds, settle
from switchgear.policy.window import Tally

__all__ = ["Account", "Budget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many retries the calls of one edge may make together."""

    ratio: float = 0.1
    """Retries allowed for each success in the window; 0 to 10."""
    reserve: int = 10
    """Retries allowed in the window whatever succeeds."""
    window: Seconds = 10.0
    """How far back to look, in seconds."""

    def __post_init__(self) -> None:
        settle(self, "window")
        allow(self, "ratio", 0, 10)
        allow(self, "reserve", 0)
        allow(self, "window", 0, above=True)

    def describe(self) -> dict[str, object]:
        """Return the settings as plain values."""
        return described(self)


class Account:
    """The state of one budget, shared by every call of an edge."""

    __slots__ = ("empty", "settings", "tally")

    def __init__(self, settings: Budget) -> None:
        self.settings = settings
        self.tally = Tally([seconds(settings.window)])
        self.empty = False
        """Whether the last withdrawal was refused."""

    def balance(self, now: float) -> float:
        """Return how many retries could be paid for now; the last one may be a fraction."""
        ((deposits, withdrawals),) = self.tally.totals(now)
        return self.settings.reserve + self.settings.ratio * deposits - withdrawals

    def withdraw(self, now: float) -> bool:
        """Pay for one retry; False if the budget is exhausted."""
        # ratio * deposits is a float: ten deposits of 0.1 must buy one retry
        self.empty = self.balance(now) < 1 - 1e-9
        if not self.empty:
            self.tally.add_bad(now)
        return not self.empty
