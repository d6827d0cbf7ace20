"""How the calls of one edge may behave: the settings, all in one place.

A policy is data: frozen, comparable, described by `describe()`. What it does is in `machine.py`.
Where its values come from, if not from the code that made it, is in `defaults.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, TypeAlias

from switchgear.errors import PolicyError
from switchgear.policy.breaker import Breaker
from switchgear.policy.budget import AnyBudget, Budget, GrpcThrottling, TokenBucket
from switchgear.policy.fallback import Fallback
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.retry import Retry
from switchgear.policy.settings import Seconds, Settings, allow, described, part, seconds, settle
from switchgear.policy.throttle import Throttle

__all__ = ["PARTS", "Part", "Policy"]

Part: TypeAlias = Literal[
    "deadline",
    "attempt_timeout",
    "retry",
    "budget",
    "hedge",
    "throttle",
    "breaker",
    "limit",
    "fallback",
]
PARTS: Final[tuple[Part, ...]] = (
    "deadline",
    "attempt_timeout",
    "retry",
    "budget",
    "hedge",
    "throttle",
    "breaker",
    "limit",
    "fallback",
)
"""The parts of a policy, by name of the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Settings):
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
    budget: AnyBudget | None = field(default_factory=Budget)
    hedge: Hedge | None = None
    throttle: Throttle | None = None
    breaker: Breaker | None = field(default_factory=Breaker)
    limit: Limit | None = field(default_factory=Limit)
    fallback: Fallback | None = None
    observe: bool | Iterable[Part] = ()
    """Parts that only report what they would have done; True: all of them. Kept as a tuple."""
    unguarded: str | None = None
    """Why there is no policy; see `none`."""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where settings come from that neither the code nor the library gave: see `defaults.py`."""

    def __post_init__(self) -> None:
        settle(self, "deadline", "attempt_timeout")
        allow(self, "deadline", 0, above=True)
        allow(self, "attempt_timeout", 0, above=True)
        part(self, "retry", Retry)
        part(self, "budget", Budget, GrpcThrottling, TokenBucket)
        part(self, "hedge", Hedge)
        part(self, "throttle", Throttle)
        part(self, "breaker", Breaker)
        part(self, "limit", Limit)
        part(self, "fallback", Fallback)
        object.__setattr__(self, "observe", self._observed())
        self._agree()

    @classmethod
    def checked(cls, policy: object, *, where: str) -> Policy | None:
        """Return what was given as a policy, or as None. Raises PolicyError for anything else."""
        if policy is None or isinstance(policy, Policy):
            return policy
        raise PolicyError(
            f"{policy!r} is no policy.", where=where, fix="Give a Policy(...), or leave it out."
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
            deadline=None,
            attempt_timeout=None,
            retry=None,
            budget=None,
            hedge=None,
            throttle=None,
            breaker=None,
            limit=None,
            fallback=None,
            unguarded=reason,
        )

    def observes(self, part: Part) -> bool:
        """Tell whether a part only reports what it would have done."""
        return part in self.observe  # type: ignore[operator]  # kept as a tuple

    def describe(self) -> dict[str, object]:
        """Return every setting as plain values, for pages, linters and the simulator.

        `sources` names where each value came from that is not the library's default: a file and
        key, a preset, or the code.
        """
        plain = described(self)
        plain["observe"] = list(plain["observe"])  # type: ignore[call-overload]  # a tuple
        plain["sources"] = dict.fromkeys(_given(self), "the code") | dict(self.sources)
        return plain

    def _observed(self) -> tuple[Part, ...]:
        if isinstance(self.observe, bool):
            return PARTS if self.observe else ()
        named = (self.observe,) if isinstance(self.observe, str) else tuple(self.observe)
        for name in named:
            if name not in PARTS:
                raise PolicyError(
                    f"observe names {name!r}, which is no part of a policy.",
                    where="Policy",
                    fix=f"Name some of {', '.join(PARTS)}, or write True for all.",
                )
        return tuple(part for part in PARTS if part in named)

    def _agree(self) -> None:
        """Refuse values that contradict each other."""
        whole = inf if self.deadline is None else seconds(self.deadline)
        one = inf if self.attempt_timeout is None else seconds(self.attempt_timeout)
        bound = min(whole, one)
        if self.deadline is not None and self.attempt_timeout is not None and one > whole:
            raise self._contradiction(
                ("attempt_timeout", f"{one:g} s"),
                ("deadline", f"{whole:g} s"),
                "an attempt cannot last longer than the call that it belongs to",
                fix="Lower attempt_timeout or raise deadline.",
            )
        named = ("deadline", f"{whole:g} s") if whole <= one else ("attempt_timeout", f"{one:g} s")
        if self.hedge is not None:
            setting = "least" if self.hedge.after is None else "after"
            soonest = seconds(getattr(self.hedge, setting))
            if soonest >= bound:
                raise self._contradiction(
                    (f"hedge.{setting}", f"{soonest:g} s"),
                    named,
                    "the attempt is over before its rival would begin",
                    fix=f"Lower hedge.{setting} or raise {named[0]}.",
                )
        breaker = self.breaker
        if breaker is None or breaker.mode != "auto":
            return
        if breaker.slow is not None and seconds(breaker.slow) >= bound:
            raise self._contradiction(
                ("breaker.slow", f"{seconds(breaker.slow):g} s"),
                named,
                "an attempt is ended before it can be slow",
                fix=f"Lower breaker.slow or raise {named[0]}.",
            )
        if self.limit is not None and bound < inf and breaker.consecutive is None:
            places = self.limit.most
            needed = [
                (one.seconds, max(one.calls, breaker.least_failures)) for one in breaker.evidence
            ]
            # of a callee that hangs, no more is seen than the places that are free again in time
            if all(places * seconds(length) / bound < calls for length, calls in needed):
                length, calls = needed[-1]
                raise self._contradiction(
                    ("limit.concurrency", str(places)),
                    ("breaker.evidence", f"{calls} calls in {seconds(length):g} s"),
                    f"with {named[0]} at {named[1]} a callee that hangs gives at most "
                    f"{places * seconds(length) / bound:.3g} calls in that time, so the breaker "
                    "never opens",
                    fix="Raise limit.concurrency, lower the calls of breaker.evidence, or set "
                    "breaker.consecutive.",
                )

    def _contradiction(
        self, one: tuple[str, str], other: tuple[str, str], why: str, *, fix: str
    ) -> PolicyError:
        said = " and ".join(
            f"{name} is {value}" + (f" ({self.sources[name]})" if name in self.sources else "")
            for name, value in (one, other)
        )
        return PolicyError(f"{said}: {why}.", where="Policy", fix=fix)


def _given(settings: Settings, prefix: str = "") -> list[str]:
    """Return the paths of the settings that were given, those of parts included."""
    paths = []
    for name in sorted(settings.given - {"sources"}):
        value = getattr(settings, name)
        inside = _given(value, f"{prefix}{name}.") if isinstance(value, Settings) else []
        paths += inside or [f"{prefix}{name}"]
    return paths
