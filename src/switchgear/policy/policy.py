"""How the calls of one edge may behave: the settings, all in one place.

A policy is data: frozen, comparable, described by `describe()`. What it does is in `machine.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from switchgear.errors import PolicyError
from switchgear.policy.breaker import Breaker
from switchgear.policy.budget import Budget
from switchgear.policy.fallback import Fallback
from switchgear.policy.limit import Limit
from switchgear.policy.retry import Retry
from switchgear.policy.settings import Seconds, allow, described, seconds, settle

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the calls of one edge may behave. Every part can be left out with None.

    `Policy()` is the default: one second for the whole call, three attempts where repeating is
    safe, retries for a tenth of what succeeds, a breaker, and a bulkhead of 100.

    Raises PolicyError where a setting is out of range or two of them contradict each other.
    """

    deadline: Seconds | None = 1.0
    """Bounds the whole call, pauses included. Seconds; None: only what the caller has left."""
    attempt_timeout: Seconds | None = None
    """Bounds one attempt. Seconds, at most `deadline`; None: the deadline alone."""
    retry: Retry | None = field(default_factory=Retry)
    budget: Budget | None = field(default_factory=Budget)
    breaker: Breaker | None = field(default_factory=Breaker)
    limit: Limit | None = field(default_factory=Limit)
    fallback: Fallback | None = None
    unguarded: str | None = None
    """Why there is no policy; see `none`."""

    def __post_init__(self) -> None:
        settle(self, "deadline", "attempt_timeout")
        allow(self, "deadline", 0, above=True)
        allow(self, "attempt_timeout", 0, above=True)
        if self.deadline is not None and self.attempt_timeout is not None:
            whole, one = seconds(self.deadline), seconds(self.attempt_timeout)
            if one > whole:
                raise PolicyError(
                    f"attempt_timeout is {one:g} s and deadline is {whole:g} s: an attempt cannot "
                    "last longer than the call that it belongs to.",
                    where="Policy",
                    fix="Lower attempt_timeout or raise deadline.",
                )

    @classmethod
    def none(cls, *, reason: str) -> Policy:
        """Return a policy that does nothing, for a call that goes unguarded on purpose.

        `reason` is shown wherever the edge is: a call without protection is a decision.
        """
        if not reason.strip():
            raise PolicyError(
                "Policy.none() has an empty reason.",
                where="Policy",
                fix="Say in a sentence why these calls need no protection.",
            )
        return cls(
            deadline=None, retry=None, budget=None, breaker=None, limit=None, unguarded=reason
        )

    def describe(self) -> dict[str, object]:
        """Return every setting as plain values, for pages, linters and the simulator."""
        return described(self)
