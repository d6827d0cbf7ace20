"""How many attempts may be under way at once, and who waits for a place.

The rules
---------
An attempt takes a place and gives it back when it ends, whatever its end. When no place is free
the call waits in a queue of bounded length, first come first served, for a bounded time; beyond
either bound it is turned away. A place that is given back goes to the head of the queue at once,
so nobody who comes later overtakes. Who has waited too long is passed over.

The bound belongs to the caller: it keeps one slow callee from taking every worker (a bulkhead). It
is a number, or found by trying, from how long attempts take and how they end (`adaptive.py`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from math import inf
from typing import Generic, TypeVar

from switchgear.policy.adaptive import Adaptive, Estimator
from switchgear.policy.settings import Seconds, Settings, allow, seconds, settle

__all__ = ["Gate", "Limit"]

W = TypeVar("W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit(Settings):
    """How many attempts of one edge may be under way at once."""

    concurrency: int | Adaptive = 100
    """Attempts in flight, at least 1; or how to find that number."""
    queue: int = 100
    """Calls that may wait for a place; 0: none."""
    wait: Seconds = 0.25
    """How long a call may wait in the queue, in seconds; its deadline may end that sooner."""

    def __post_init__(self) -> None:
        settle(self, "wait")
        if not isinstance(self.concurrency, Settings):
            allow(self, "concurrency", 1, instead="one of Aimd, Gradient, Vegas")
        allow(self, "queue", 0)
        allow(self, "wait", 0)

    @property
    def most(self) -> int:
        """How many attempts may be in flight at the very most."""
        found = self.concurrency
        return found if isinstance(found, int) else found.maximum


class Gate(Generic[W]):
    """The state of one limit, shared by every call of an edge. `W` is whatever waits.

    Without settings it has places without end, and counts them all the same: who is inside when
    a limit is set later is inside that limit.
    """

    __slots__ = (
        "_rule",
        "concurrency",
        "estimator",
        "full",
        "in_flight",
        "patience",
        "places",
        "waiting",
    )

    def __init__(self, settings: Limit | None) -> None:
        self.concurrency: float = inf
        self.estimator: Estimator | None = None
        """What finds `concurrency`; None: it is a fixed number."""
        self._rule: Adaptive | None = None
        self.in_flight = 0
        self.full = False
        """Whether somebody was turned away since a place was last free."""
        self.waiting: OrderedDict[W, float] = OrderedDict()
        """Who waits, in order, and until when."""
        self.reload(settings)

    def enter(self) -> bool:
        """Take a place; False: none is free."""
        if self.in_flight >= self.concurrency:
            return False
        self.in_flight += 1
        self.full = False
        return True

    def queue(self, waiter: W, until: float) -> bool:
        """Wait for a place until the given time; False: the queue is full."""
        if len(self.waiting) >= self.places:
            return False
        self.waiting[waiter] = until
        return True

    def abandon(self, waiter: W) -> bool:
        """Leave the queue; False: not in it."""
        return self.waiting.pop(waiter, None) is not None

    def leave(self, now: float) -> W | None:
        """Give a place back; return who has it now, if somebody waited."""
        self.in_flight -= 1
        return self.next(now)

    def next(self, now: float) -> W | None:
        """Return who has waited longest and has a place now; None: nobody, or none is free."""
        while self.waiting and self.in_flight < self.concurrency:
            waiter, until = self.waiting.popitem(last=False)
            if now < until:
                self.in_flight += 1
                return waiter
        return None

    def learn(self, now: float, took: float, *, overloaded: bool) -> None:
        """Tell what finds the limit of an attempt that has just left; see `Estimator.ended`."""
        if self.estimator is not None:
            self.estimator.ended(now, took, self.in_flight + 1, overloaded)
            self.concurrency = self.estimator.limit

    def reload(self, settings: Limit | None) -> None:
        """Take other settings. Who is inside stays; the next to enter are asked of `next`."""
        found = inf if settings is None else settings.concurrency
        if isinstance(found, int | float):
            self.concurrency, self.estimator, self._rule = found, None, None
        elif found != self._rule:
            if self._rule is not None:
                # what was found under another rule is a better beginning than a guess
                known = max(found.minimum, min(found.maximum, int(self.concurrency)))
                self.estimator = replace(found, initial=known).estimator()
            else:
                self.estimator = found.estimator()
            self.concurrency, self._rule = self.estimator.limit, found
        self.places = 0 if settings is None else settings.queue
        """How many may wait."""
        self.patience = 0.0 if settings is None else seconds(settings.wait)
        """How long each of them may."""
