"""Virtual time: what is to happen, in order.

An event is `(time, number, action, subject)` in one heap, and happens as `action(subject)`. Events
of one time happen in the order in which they were announced, so a run is the same whenever its
random generators are. Nothing is taken out of the heap early: who no longer wants an event ignores
it when it comes, which costs less than finding it.

Components push into `events` by `at`; where every call counts they do by hand what `at` does.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeAlias

__all__ = ["Event", "Kernel"]

Event: TypeAlias = tuple[float, int, Callable[[Any], None], Any]
"""`Any`: each action knows what its own subject is."""


class Kernel:
    """A clock, and what is to happen."""

    __slots__ = ("events", "now", "number")

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the run began."""
        self.events: list[Event] = []
        self.number = 0

    def at(self, time: float, action: Callable[[Any], None], subject: Any = None) -> None:
        """Announce `action(subject)` for a time, which is not in the past."""
        self.number += 1
        heappush(self.events, (time, self.number, action, subject))

    def run(self) -> None:
        """Let everything happen, until nothing is announced any more."""
        events, take = self.events, heappop
        while events:
            self.now, _, action, subject = take(events)
            action(subject)
