"""When to stop asking a callee that fails, and how to find out that it is back.

States
------
CLOSED      Calls pass. Results are counted. Enough evidence of failure opens.
OPEN        No call passes for the open time. Then the next caller makes it HALF_OPEN.
HALF_OPEN   Exactly `probes` calls may be in flight. When that many have succeeded it closes; one
            failure opens it again.

RAMP is the first `ramp` seconds of CLOSED: a share of the calls passes that grows from nothing to
all, and at least `probes` of them in each second (so a caller with little traffic does not notice).
When it is over, so is the episode: the next opening lasts the shortest time again.

| state     | success                    | failure             | rejected, cancelled |
| --------- | -------------------------- | ------------------- | ------------------- |
| CLOSED    | counted                    | counted, may open   | permit back         |
| HALF_OPEN | after `probes` of them: CLOSED | OPEN, for longer | permit back         |
| OPEN      | late: nothing              | late: nothing       | nothing             |

Evidence
--------
With k failures among the n calls of a window, and n at least the window's minimum, it opens when
the lower bound of the Wilson score interval for the failure rate is above the threshold t. That
interval inverts the score test, so the bound is above t exactly when

    k > t * n   and   (k - t * n)**2  >  z**2 * t * (1 - t) * n

with z the one-sided normal quantile of `confidence`. Two windows are watched: 1 s with at least 20
calls sees a total outage under load at once; 10 s with at least 10 sees it where calls are rare.
`confidence=None` is the plain rate, k >= t * n. The cost of being sure is a few more failed calls
before it opens; the cost of not being sure is that noise opens it (docs/reference/policy.md has
both as a table).

Tickets
-------
Who is let in draws a ticket of the state's generation and returns it with the result. A ticket of
an earlier generation changes nothing. A probe's ticket that is not returned within `lost_after`
counts as lost, and its place is free again. What was turned away on our side, and what the caller
cancelled, is neither success nor failure.

Each opening of one episode lasts `growth` times longer than the one before, up to `longest`, and
then up to `jitter` of it less, so that many callers do not probe together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from switchgear.errors import PolicyError
from switchgear.model.signal import SignalKind
from switchgear.policy.settings import (
    Seconds,
    Settings,
    allow,
    described,
    one_of,
    ordered,
    seconds,
    settle,
)
from switchgear.policy.window import Tally

__all__ = ["Breaker", "Circuit", "Evidence", "State", "Ticket"]

Report = Callable[[SignalKind, Mapping[str, str | int | float | bool | None]], None]
Mode = Literal["auto", "open", "closed"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A window that is long enough, with calls enough, to judge by."""

    seconds: Seconds
    """How far back to look."""
    calls: int
    """Fewer calls than this in the window prove nothing."""

    def __post_init__(self) -> None:
        settle(self, "seconds")
        allow(self, "seconds", 0, above=True)
        allow(self, "calls", 1)

    def describe(self) -> dict[str, object]:
        """Return the settings as plain values."""
        return described(self)

    @classmethod
    def read(cls, plain: object) -> tuple[Evidence, ...]:
        """Return the windows that plain values say: pairs, or tables of the settings by name.

        Raises TypeError for what is neither, and PolicyError for a value out of range.
        """
        if not isinstance(plain, list | tuple):
            raise TypeError("not a list")
        found = []
        for one in plain:
            if not isinstance(one, Mapping | list | tuple):
                raise TypeError("neither a pair nor a table")
            found.append(cls(**one) if isinstance(one, Mapping) else cls(*one))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker(Settings):
    """When the calls of one edge are no longer let through."""

    threshold: float = 0.5
    """The share of failed calls that is too much; above 0, below 1 (1: with `confidence=None`)."""
    confidence: float | None = 0.975
    """How sure to be that the rate is above the threshold; 0.5 to 0.9999. None: the plain rate.

    The default puts the lower end of the usual two-sided 95% interval above the threshold.
    """
    evidence: tuple[Evidence, ...] = (Evidence(1.0, 20), Evidence(10.0, 10))
    """The windows; any one of them opens the breaker."""
    consecutive: int | None = None
    """Open after this many failures in a row, whatever the rate. None: off."""
    slow: Seconds | None = None
    """A call that takes longer than this is slow, however it ends. None: time does not matter."""
    slow_threshold: float = 0.8
    """The share of slow calls that is too much, judged like `threshold`."""
    open: Seconds = 30.0
    """How long the first opening of an episode lasts, in seconds."""
    longest: Seconds = 300.0
    """No opening lasts longer."""
    growth: float = 2.0
    """By how much each further opening of an episode is longer; 1 to 10."""
    jitter: float = 0.2
    """The largest share by which an opening is shortened at random; 0 to 1."""
    probes: int = 3
    """Calls in flight, and successes needed, in half-open."""
    ramp: Seconds = 10.0
    """Seconds over which traffic grows back after closing; 0: at once."""
    lost_after: Seconds = 60.0
    """A probe not heard of for that long is given up."""
    mode: Mode = "auto"
    """`open` and `closed` force the state."""

    def __post_init__(self) -> None:
        settle(self, "slow", "open", "longest", "ramp", "lost_after")
        allow(self, "threshold", 0, 1, above=True)
        allow(self, "slow_threshold", 0, 1, above=True)
        allow(self, "confidence", 0.5, 0.9999)
        if not self.evidence:
            raise PolicyError(
                "evidence names no window.",
                where="Breaker",
                fix="Give at least one Evidence(seconds, calls).",
            )
        if not all(isinstance(window, Evidence) for window in self.evidence):
            raise PolicyError(
                f"evidence is {self.evidence!r}; it has to be a tuple of Evidence(seconds, calls).",
                where="Breaker",
            )
        for name in ("threshold", "slow_threshold"):
            if self.confidence is not None and getattr(self, name) == 1:
                raise PolicyError(
                    f"{name} is 1 and confidence is {self.confidence:g}: no evidence is enough "
                    "to be sure of a rate above 1.",
                    where="Breaker",
                    fix=f"Set {name} below 1, or confidence=None for the plain rate.",
                )
        allow(self, "consecutive", 1)
        allow(self, "slow", 0, above=True)
        allow(self, "open", 0, above=True)
        ordered(self, "open", "longest")
        allow(self, "growth", 1, 10)
        allow(self, "jitter", 0, 1)
        allow(self, "probes", 1)
        allow(self, "ramp", 0)
        allow(self, "lost_after", 0, above=True)
        one_of(self, "mode", ("auto", "open", "closed"))

    @property
    def least_failures(self) -> int:
        """How many calls, all of them failed, are evidence enough by the rule alone."""
        variance = Rule(self.threshold, self.confidence).variance
        # `Rule.above(n, n)`, solved for n
        return 1 if variance is None else math.floor(variance / (1 - self.threshold) ** 2) + 1


class State(StrEnum):
    """What the breaker does with a call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Ticket:
    """The right to make one attempt. A probe has one of its own; in CLOSED all share one."""

    __slots__ = ("expires", "generation")

    def __init__(self, generation: int, expires: float = math.inf) -> None:
        self.generation = generation
        self.expires = expires


# let through although the breaker said no, because it only observes: its result changes nothing
_FREE = Ticket(-1)


def quantile(confidence: float) -> float:
    """Return z with P(Z <= z) = confidence for a standard normal Z, by bisection of `erf`."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 + math.erf(middle / math.sqrt(2))) / 2 < confidence:
            low = middle
        else:
            high = middle
    return high


class Rule:
    """The rule of evidence for one threshold."""

    __slots__ = ("threshold", "variance")

    def __init__(self, threshold: float, confidence: float | None) -> None:
        self.threshold = threshold
        z = None if confidence is None else quantile(confidence)
        self.variance = None if z is None else z * z * threshold * (1 - threshold)

    def above(self, bad: int, calls: int) -> bool:
        """Tell whether `bad` among `calls` is evidence of a rate above the threshold."""
        excess = bad - self.threshold * calls
        if self.variance is None:
            return excess >= 0
        return excess > 0 and excess * excess > self.variance * calls


class Circuit:
    """The state of one breaker, shared by every call of an edge.

    `generation` is that of its first tickets: above all that an earlier breaker of the edge drew.
    """

    __slots__ = (
        "_closed",
        "_lost_after",
        "_observe",
        "_random",
        "_report",
        "_rule",
        "_slow",
        "_slow_rule",
        "ended_row",
        "episode",
        "flights",
        "generation",
        "proved",
        "ramp_began",
        "ramp_ends",
        "ramp_passed",
        "ramp_second",
        "row",
        "settings",
        "standing",
        "state",
        "tally",
        "tardy",
        "until",
    )

    def __init__(
        self,
        settings: Breaker,
        random: Callable[[], float],
        report: Report,
        *,
        observe: bool = False,
        generation: int = 0,
    ) -> None:
        self._random = random
        self._report = report
        self.tally = Tally(())
        """Answered and failed calls."""
        self.tardy: Tally | None = None
        """Quick and slow calls."""
        self._settle(settings, observe=observe)
        self.state = State.CLOSED
        self.generation = generation
        self._closed = Ticket(generation)
        """The ticket of this CLOSED."""
        self.until = 0.0
        """When OPEN ends."""
        self.episode = 0
        """How many times it has opened since it was last well."""
        self.ramp_began = self.ramp_ends = 0.0
        self.standing: Ticket | None = self._stands()
        """The ticket of everybody while CLOSED and not in the ramp; else None: ask `admit`."""
        self.ramp_second = self.ramp_passed = 0
        """The second of the ramp, and how many calls have passed in it."""
        self.flights: set[Ticket] = set()
        """Probes in flight."""
        self.proved = 0
        """Successful probes of this half-open."""
        self.row = 0
        """Failures in a row."""
        self.ended_row = 0
        """How many there were when the last call went well."""

    def reload(self, now: float, settings: Breaker, *, observe: bool = False) -> None:
        """Take other settings. State, evidence and probes stay.

        An opening that has begun ends when it was to end, or sooner where `longest` is shorter now.
        """
        self._settle(settings, observe=observe)
        self.until = min(self.until, now + seconds(settings.longest))
        self.standing = self._stands() if self.state is State.CLOSED else None

    def admit(self, now: float) -> Ticket | None:
        """Draw a ticket for one attempt; None: turned away."""
        if self.standing is not None:
            return self.standing
        if self.settings.mode == "closed":
            return _FREE
        ticket = None
        if self.settings.mode != "open":
            ticket = self._ramp(now) if self.state is State.CLOSED else self._probe(now)
        if ticket is None and self._observe:
            self._report(SignalKind.POLICY_OBSERVED, {"part": "breaker", "state": self.state})
            return _FREE
        return ticket

    def admits(self, now: float) -> bool:
        """Tell whether `admit` could let a call in now. Changes nothing and draws nothing."""
        if self.standing is not None or self._observe or self.settings.mode == "closed":
            return True
        if self.settings.mode == "open":
            return False
        if self.state is State.HALF_OPEN:
            return self._place_free(now)
        return self.state is State.CLOSED or now >= self.until

    def succeeded(self, now: float, ticket: Ticket, took: float) -> None:
        """Return a ticket: the callee answered, in `took` seconds."""
        if ticket is self.standing:
            # nearly every call: nothing more than the count
            self.ended_row = self.row
            self.row = 0
            tally = self.tally
            if now < tally.edge:
                tally.good += 1
            else:
                tally.add_good(now)
            if self.tardy is not None:
                self._timed(now, took)
            return
        if ticket.generation != self.generation:
            return
        if self.state is State.HALF_OPEN:
            if took > self._slow:
                self.failed(now, ticket, took)
            elif self._give_back(ticket):
                self.proved += 1
                if self.proved >= self.settings.probes:
                    self._close(now)
            return
        self.ended_row = self.row
        self.row = 0
        self.tally.add_good(now)
        if self.tardy is not None:
            self._timed(now, took)

    def failed(self, now: float, ticket: Ticket, took: float) -> None:
        """Return a ticket: the attempt failed after `took` seconds."""
        if ticket.generation != self.generation:
            return
        if self.state is State.HALF_OPEN:
            if self._give_back(ticket):
                self._open(now, "probe", {})
            return
        if not self._bad(now) and self.tardy is not None:
            self._timed(now, took)

    def broke(self, now: float, ticket: Ticket, answered: float) -> None:
        """Count a success, told at `answered`, as the failure that it has turned out to be.

        It is taken out of the windows that still hold it: otherwise streams that all fail after
        their first reply would be half failures and half successes.
        """
        if ticket.generation != self.generation:
            return
        if self.state is State.HALF_OPEN:
            self._open(now, "probe", {})
            return
        self.tally.take_back(now, answered)
        # it ended no row either, if no other call went well since
        self.row += self.ended_row
        self.ended_row = 0
        self._bad(now)

    def released(self, ticket: Ticket) -> None:
        """Return a ticket without a result: cancelled, or turned away on our side."""
        self.flights.discard(ticket)

    def wait(self, now: float) -> float | None:
        """Return for how many seconds more it stays open; None where that is not known."""
        if self.state is State.OPEN and self.settings.mode != "open":
            return max(0.0, self.until - now)
        return None

    def _settle(self, settings: Breaker, *, observe: bool) -> None:
        self.settings = settings
        self._observe = observe
        self._rule = Rule(settings.threshold, settings.confidence)
        self._slow_rule = Rule(settings.slow_threshold, settings.confidence)
        self._slow = math.inf if settings.slow is None else seconds(settings.slow)
        self._lost_after = seconds(settings.lost_after)
        lengths = [seconds(window.seconds) for window in settings.evidence]
        self.tally = self.tally.resized(lengths)
        if settings.slow is None:
            self.tardy = None
        else:
            self.tardy = (self.tardy or Tally(())).resized(lengths)

    def _stands(self) -> Ticket | None:
        """Return the ticket of everybody, where there is one."""
        ramping = self.ramp_ends > self.ramp_began
        return None if ramping or self.settings.mode == "open" else self._closed

    def _ramp(self, now: float) -> Ticket | None:
        """Let a share of the calls pass that grows with the time since it closed."""
        if now >= self.ramp_ends:
            self.standing = self._closed
            return self._closed
        since = now - self.ramp_began
        if int(since) != self.ramp_second:
            self.ramp_second, self.ramp_passed = int(since), 0
        share = since / (self.ramp_ends - self.ramp_began)
        if self.ramp_passed >= self.settings.probes and self._random() >= share:
            return None
        self.ramp_passed += 1
        return self._closed

    def _probe(self, now: float) -> Ticket | None:
        """Let a probe pass if it is time, and a place is free."""
        if self.state is State.OPEN:
            if now < self.until:
                return None
            self._turn(State.HALF_OPEN)
            self.proved = 0
            self._turned(SignalKind.BREAKER_HALF_OPENED, {"probes": self.settings.probes})
        if not self._place_free(now):
            return None
        ticket = Ticket(self.generation, now + self._lost_after)
        self.flights.add(ticket)
        return ticket

    def _place_free(self, now: float) -> bool:
        if len(self.flights) >= self.settings.probes:
            self.flights = {ticket for ticket in self.flights if ticket.expires > now}
        return len(self.flights) < self.settings.probes

    def _give_back(self, ticket: Ticket) -> bool:
        """Free a probe's place; False if it was given up as lost, or returned before."""
        if ticket not in self.flights:
            return False
        self.flights.remove(ticket)
        return True

    def _timed(self, now: float, took: float) -> None:
        """Count a call as quick or slow."""
        tardy = self.tardy
        if tardy is None:
            return
        if took <= self._slow:
            tardy.add_good(now)
        else:
            tardy.add_bad(now)
            self._judge(now, tardy, self._slow_rule, "slow")

    def _bad(self, now: float) -> bool:
        """Count a failure while CLOSED; tell whether that opened it."""
        self.row += 1
        self.tally.add_bad(now)
        if self.settings.consecutive is not None and self.row >= self.settings.consecutive:
            self._open(now, "consecutive", {"failures": self.row})
            return True
        return self._judge(now, self.tally, self._rule, "failures")

    def _judge(self, now: float, tally: Tally, rule: Rule, trigger: str) -> bool:
        """Open if one of the windows holds enough evidence; tell whether it did."""
        for window, (good, bad) in zip(self.settings.evidence, tally.totals(now), strict=True):
            calls = good + bad
            if calls >= window.calls and rule.above(bad, calls):
                evidence = {"failures": bad, "calls": calls, "window": seconds(window.seconds)}
                self._open(now, trigger, evidence)
                return True
        return False

    def _open(self, now: float, trigger: str, evidence: Mapping[str, float]) -> None:
        if self.settings.mode == "closed":
            return
        if self.state is State.CLOSED and now >= self.ramp_ends:
            self.episode = 0
        settings = self.settings
        # the exponent is bounded so that a callee gone for a month does not overflow a float
        lasting = seconds(settings.open) * settings.growth ** min(self.episode, 64)
        lasting = min(lasting, seconds(settings.longest)) * (1 - settings.jitter * self._random())
        self.episode += 1
        self.until = now + lasting
        self._turn(State.OPEN)
        self._turned(
            SignalKind.BREAKER_OPENED, {"trigger": trigger, "seconds": lasting, **evidence}
        )

    def _close(self, now: float) -> None:
        self._turn(State.CLOSED)
        self.tally.clear()
        if self.tardy is not None:
            self.tardy.clear()
        self.row = self.ended_row = 0
        self.ramp_began = now
        self.ramp_ends = now + seconds(self.settings.ramp)
        self.ramp_second = self.ramp_passed = 0
        self._closed = Ticket(self.generation)
        self._turned(SignalKind.BREAKER_CLOSED, {"ramp": seconds(self.settings.ramp)})

    def _turned(self, kind: SignalKind, detail: Mapping[str, str | int | float]) -> None:
        """Report another state; `observed` says that no call notices."""
        self._report(kind, {**detail, "observed": True} if self._observe else detail)

    def _turn(self, state: State) -> None:
        self.state = state
        self.generation += 1
        self.standing = None
        self.flights.clear()
