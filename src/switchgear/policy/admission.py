"""Which requests a server takes on, which wait, and which it turns away while that is still cheap.

Places
------
A request takes a place and gives it back when it ends. How many there are is a number, or found by
an adaptive limit (`adaptive.py`) from how long requests take. Of the places, the share `reserve` is
for critical requests alone.

The lines
---------
Who finds no place waits, in the line of its priority. `queue` bounds how many wait in all, and time
bounds how long:

| the line was empty within the last `interval`  | waits at most | the next place goes to |
| ---------------------------------------------- | ------------- | ---------------------- |
| yes: a burst                                   | `interval`    | the first in line      |
| no: it is *standing*, we are overloaded        | `target`      | the last in line       |

That is "controlled delay" with "adaptive LIFO" as Facebook runs them (Ben Maurer, "Fail at Scale",
ACM Queue 2015), with its 100 ms and 5 ms; the idea of telling a burst from a standing queue by
whether it empties is CoDel's (Nichols and Jacobson, ACM Queue 2012). Why not one line, first come
first served? It is fair in a burst, and so it is kept there. In an overload it makes everybody wait
for as long as the line is, and what it serves then are those whose callers are the likeliest to
have given up: all are late, and the work is done for nobody. Served from the other end, most
are served at once and the others are told at once that they are not.

Each priority has a line of its own, because what is an overload for default requests is none for
the critical ones that go before them.

Priorities
----------
Critical requests are served before default ones, and those before sheddable ones, always. Where
the lines are full, the one that would be served last makes room. While any line is standing,
sheddable requests do not wait at all.

The caller's priority is a hint that anybody may send, and `default` says nothing. The operation has
a priority of its own (`priority`, `operations`). With `trust="lower"` the hint may make a request
sheddable and no more; `trust="all"` takes it at its word, and is for doors that only one's own
services can reach. A request is admitted before it is authenticated: to authenticate everybody, in
order to turn most of them away, costs what is short. What was trusted is what goes on to the
request's own calls.

Ends
----
| verdict      | meaning                                                              |
| ------------ | -------------------------------------------------------------------- |
| `ADMITTED`   | it has a place, and gives it back with `left`                        |
| `QUEUE_FULL` | as many as may wait were before it                                   |
| `WAITED`     | it waited for as long as it may                                      |
| `SHEDDABLE`  | it is the kind that goes first                                       |
| `EXPIRED`    | its deadline passed in the line: nobody is interested in it any more |

Nothing of a request that was not admitted has run. With `mode="observe"` everybody is admitted, and
`Visitor.spared` marks who would have found no place.

Steps
-----
    visitor.verdict is None after `arrive`: wait until it is not, or until `visitor.until`, when
    `overdue` decides; `abandoned` if it goes away first. `left` when an admitted one has ended.

Visitors whose verdict was found meanwhile are in `outbox`, for the driver to wake. There is no
lock: one event loop drives it, or a simulator.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from switchgear.errors import PolicyError
from switchgear.model.context import Priority
from switchgear.model.signal import SignalKind
from switchgear.policy.adaptive import Adaptive, Estimator
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

__all__ = ["Admission", "Turnstile", "Verdict", "Visitor"]

Report = Callable[[SignalKind, Mapping[str, str | int | float | bool | None]], None]

_ORDER: Final = (Priority.CRITICAL, Priority.DEFAULT, Priority.SHEDDABLE)
_CALM: Final = 10
"""An overload is over when nobody was turned away for so many intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission(Settings):
    """How many requests are carried out at once, and who is turned away beyond that."""

    concurrency: int | Adaptive = 100
    """Requests in progress: a number, at least 1, or `Aimd`, `Gradient` or `Vegas`."""
    queue: int = 100
    """Requests that may wait for a place; 0: none."""
    interval: Seconds = 0.1
    """How long a request may wait in a burst. Seconds, above 0."""
    target: Seconds = 0.005
    """How long a request may wait in an overload. Seconds, at most `interval`."""
    reserve: float = 0.1
    """The share of the places that only critical requests get; 0 to 0.9.

    Where no request can be critical, nothing is reserved.
    """
    priority: Priority = Priority.DEFAULT
    """The priority of an operation that `operations` does not name."""
    operations: Mapping[str, Priority | Admission] = field(default_factory=dict)
    """What differs for an operation, by the name of its method: its priority, or places and a
    queue of its own, which no other operation can take from it.
    """
    trust: Literal["lower", "all"] = "lower"
    """What a caller's priority may do to the operation's: lower it, or replace it."""
    retry_after: Seconds = 1.0
    """When who was turned away is asked to come back. Seconds, above 0."""
    mode: Literal["auto", "observe"] = "auto"
    """`observe` reports what it would do and admits everybody."""

    def __post_init__(self) -> None:
        settle(self, "interval", "target", "retry_after")
        if not isinstance(self.concurrency, Adaptive):
            allow(self, "concurrency", 1, instead="one of Aimd, Gradient, Vegas")
        allow(self, "queue", 0)
        allow(self, "interval", 0, above=True)
        allow(self, "target", 0, above=True)
        allow(self, "reserve", 0, 0.9)
        allow(self, "retry_after", 0, above=True)
        one_of(self, "priority", _ORDER)
        # a word that names one is one
        object.__setattr__(self, "priority", Priority(self.priority))
        one_of(self, "trust", ("lower", "all"))
        one_of(self, "mode", ("auto", "observe"))
        ordered(self, "target", "interval")
        for name, one in self.operations.items():
            if isinstance(one, Admission) and one.operations:
                raise PolicyError(
                    f"operations gives {name} an Admission that has operations itself.",
                    where="Admission",
                    fix="An operation has no operations: leave them out.",
                )
            if not isinstance(one, Admission) and one not in _ORDER:
                raise PolicyError(
                    f"operations gives {name} {one!r}; it has to be an Admission, or one of "
                    f"{', '.join(_ORDER)}.",
                    where="Admission",
                )

    def describe(self) -> dict[str, object]:
        """Return the settings as plain values."""
        named = {
            name: one.describe() if isinstance(one, Admission) else str(one)
            for name, one in self.operations.items()
        }
        return described(self, operations=named)

    def priority_of(self, operation: str, hint: Priority) -> Priority:
        """Return the priority of a request for `operation` whose caller says `hint`."""
        if hint is Priority.SHEDDABLE or (self.trust == "all" and hint is not Priority.DEFAULT):
            return hint
        own = self.operations.get(operation, self.priority)
        return own.priority if isinstance(own, Admission) else Priority(own)

    @property
    def reserved(self) -> float:
        """The share that is kept free; 0 where no request can be critical."""
        priorities = (self.priority, *self.operations.values())
        critical = self.trust == "all" or Priority.CRITICAL in priorities
        return self.reserve if critical else 0.0


class Verdict(StrEnum):
    """What becomes of a request; see the module."""

    ADMITTED = "admitted"
    QUEUE_FULL = "queue-full"
    WAITED = "waited"
    SHEDDABLE = "sheddable"
    EXPIRED = "expired"


class Visitor:
    """A request in front of a turnstile."""

    __slots__ = ("began", "deadline", "priority", "spared", "until", "verdict", "wake")

    def __init__(self, priority: Priority, deadline: float | None = None) -> None:
        self.priority = priority
        self.deadline = math.inf if deadline is None else deadline
        """Monotonic time after which nobody wants the answer."""
        self.until = 0.0
        """When waiting ends."""
        self.began = 0.0
        """When it got its place."""
        self.spared = False
        """Admitted only because the turnstile observes."""
        self.verdict: Verdict | None = None
        """None: it waits."""
        self.wake: Callable[[], None] | None = None
        """How the driver wakes it; set by the driver."""


class _Line:
    """Who waits, of one priority, in the order in which they came."""

    __slots__ = ("_interval", "_since", "waiting")

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._since = math.inf
        """Since when it has not been empty."""
        self.waiting: OrderedDict[Visitor, None] = OrderedDict()

    def standing(self, now: float) -> bool:
        """Tell whether it has not been empty for an interval."""
        return now - self._since >= self._interval

    def join(self, now: float, visitor: Visitor) -> None:
        if not self.waiting:
            self._since = now
        self.waiting[visitor] = None

    def remove(self, visitor: Visitor) -> None:
        del self.waiting[visitor]
        if not self.waiting:
            self._since = math.inf

    def first(self, now: float) -> Visitor:
        """Return who is served next."""
        return next(reversed(self.waiting) if self.standing(now) else iter(self.waiting))

    def last(self, now: float) -> Visitor:
        """Return who would be served last."""
        return next(iter(self.waiting) if self.standing(now) else reversed(self.waiting))


class Turnstile:
    """The state of one `Admission`: who has a place, and who waits for one."""

    __slots__ = (
        "_estimator",
        "_fixed",
        "_interval",
        "_lines",
        "_report",
        "_reserved",
        "_target",
        "in_flight",
        "ordinary",
        "outbox",
        "overloaded",
        "settings",
        "shed",
        "shed_at",
        "waiting",
    )

    def __init__(self, settings: Admission, report: Report) -> None:
        self.settings = settings
        self._report = report
        self._interval = seconds(settings.interval)
        self._target = seconds(settings.target)
        self._reserved = settings.reserved
        concurrency = settings.concurrency
        self._fixed = concurrency if isinstance(concurrency, int) else 0
        self._estimator: Estimator | None = (
            None if isinstance(concurrency, int) else concurrency.estimator()
        )
        self._lines = {priority: _Line(self._interval) for priority in _ORDER}
        self.in_flight = 0
        """Requests that have a place."""
        self.ordinary = 0
        """Those of them that are not critical."""
        self.waiting = 0
        """Requests that wait for one, in all lines."""
        self.outbox: list[Visitor] = []
        """Visitors whose verdict was found while they waited, in order."""
        self.overloaded = False
        """Whether somebody was turned away lately."""
        self.shed = 0
        """How many were turned away since the overload began."""
        self.shed_at = -math.inf

    @property
    def limit(self) -> int:
        """How many places there are now."""
        return self._fixed if self._estimator is None else self._estimator.limit

    def arrive(self, now: float, visitor: Visitor) -> None:
        """Event: a request comes. Its verdict is found, or it waits."""
        if self.overloaded:
            self._look(now)
        if now >= visitor.deadline:
            # late before it came: that is no overload of ours
            visitor.verdict = Verdict.EXPIRED
            return
        if self._free(visitor.priority):
            self._admit(now, visitor)
            return
        if self.settings.mode == "observe":
            visitor.spared = True
            self._count(now)
            self._admit(now, visitor)
            return
        lines = self._lines
        if visitor.priority is Priority.SHEDDABLE and any(
            line.standing(now) for line in lines.values()
        ):
            self._turn_away(now, visitor, Verdict.SHEDDABLE)
            return
        if self.settings.queue == 0:
            self._turn_away(now, visitor, Verdict.QUEUE_FULL)
            return
        line = lines[visitor.priority]
        patience = self._target if line.standing(now) else self._interval
        visitor.until = min(now + patience, visitor.deadline)
        line.join(now, visitor)
        self.waiting += 1
        if self.waiting > self.settings.queue:
            last = next(line for line in reversed(lines.values()) if line.waiting).last(now)
            self._remove(last)
            self._turn_away(now, last, Verdict.QUEUE_FULL)
            if last is not visitor:
                self.outbox.append(last)

    def overdue(self, now: float, visitor: Visitor) -> None:
        """Event: `visitor.until` has come. It is turned away, unless its verdict was found."""
        if visitor.verdict is None:
            self._remove(visitor)
            self._too_late(now, visitor)

    def abandoned(self, now: float, visitor: Visitor) -> None:
        """Event: a request goes away before it has begun, whether it waits or was just admitted."""
        if visitor.verdict is None:
            self._remove(visitor)
        elif visitor.verdict is Verdict.ADMITTED:
            self.left(now, visitor)

    def left(
        self, now: float, visitor: Visitor, *, measured: bool = False, overloaded: bool = False
    ) -> None:
        """Event: an admitted request has ended, and gives its place back.

        `measured`: how long it took says how busy we are (not so where it was cancelled, or failed,
        or was a stream). `overloaded`: it overran its deadline.
        """
        if self._estimator is not None and (measured or overloaded):
            self._estimator.ended(now, now - visitor.began, self.in_flight, overloaded)
        self.in_flight -= 1
        if visitor.priority is not Priority.CRITICAL:
            self.ordinary -= 1
        if self.waiting:
            self._serve(now)

    def _free(self, priority: Priority) -> bool:
        """Tell whether there is a place for a request of this priority."""
        limit = self.limit
        if self.in_flight >= limit:
            return False
        if priority is Priority.CRITICAL or not self._reserved:
            return True
        return self.ordinary < limit - int(limit * self._reserved)

    def _admit(self, now: float, visitor: Visitor) -> None:
        visitor.verdict = Verdict.ADMITTED
        visitor.began = now
        self.in_flight += 1
        if visitor.priority is not Priority.CRITICAL:
            self.ordinary += 1

    def _serve(self, now: float) -> None:
        """Give free places to who waits."""
        for priority, line in self._lines.items():
            while line.waiting and self._free(priority):
                visitor = line.first(now)
                self._remove(visitor)
                self.outbox.append(visitor)
                if now < visitor.until:
                    self._admit(now, visitor)
                else:
                    self._too_late(now, visitor)

    def _remove(self, visitor: Visitor) -> None:
        self._lines[visitor.priority].remove(visitor)
        self.waiting -= 1

    def _too_late(self, now: float, visitor: Visitor) -> None:
        expired = now >= visitor.deadline
        self._turn_away(now, visitor, Verdict.EXPIRED if expired else Verdict.WAITED)

    def _turn_away(self, now: float, visitor: Visitor, verdict: Verdict) -> None:
        visitor.verdict = verdict
        self._count(now)

    def _count(self, now: float) -> None:
        """Count one that was turned away, or would have been."""
        self.shed += 1
        self.shed_at = now
        if not self.overloaded:
            self.overloaded = True
            detail = {
                "limit": self.limit,
                "queue": self.waiting,
                "observed": self.settings.mode == "observe",
            }
            self._report(SignalKind.ADMISSION_OVERLOADED, detail)

    def _look(self, now: float) -> None:
        """Find out whether the overload is over."""
        if now - self.shed_at >= _CALM * self._interval:
            self._report(SignalKind.ADMISSION_RECOVERED, {"shed": self.shed, "limit": self.limit})
            self.overloaded = False
            self.shed = 0
