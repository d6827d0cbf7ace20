"""Whether a subscription gets on, and is fresh enough: decided from what is seen now and then.

Progress is any of: this process has concluded events; there are fewer to do than before; the oldest
of them is a younger one; there is nothing to do. A subscription that shows none for `stuck_after`
seconds is stuck: a handler that hangs, a member that holds its partitions and does not work. An
event that keeps failing does not make it stuck, because its key is moved out of the way.

Another member's progress shows in the numbers of the whole group, so all members say the same of
it. The age of the oldest is the broker's, from another clock, so it has to differ by more than
`_SAME` to be another event's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

__all__ = ["STUCK_AFTER", "Progress", "Seen", "Verdict", "in_seconds"]

STUCK_AFTER: Final = 60.0
"""Seconds: longer than a usual handler takes, and than a key is tried before it is moved away."""
_SAME: Final = 1.0
"""Seconds by which the birth of one event may seem to move between two looks."""


class Seen(NamedTuple):
    """What one look has shown. Ages are in seconds."""

    events: int
    """Published and not yet done, by the whole group."""
    oldest: float | None
    """Age of the oldest of them; None: there is none, or the broker does not know."""
    stored: float | None
    """For how long the oldest event that is tried again from the database has been there."""
    done: int
    """What this process has concluded since its start."""

    @property
    def waits(self) -> float | None:
        """For how long the oldest event waits that waits for no person; None: none is known."""
        return max((age for age in (self.oldest, self.stored) if age is not None), default=None)


class Verdict(NamedTuple):
    """What is to be said of a subscription."""

    stuck: float | None
    """Seconds without progress; None: it is not stuck."""
    stale: float | None
    """Age of the oldest event that waits, where it is over the bound; None: it is fresh."""


@dataclass(slots=True)
class Progress:
    """The judgement on one subscription. Times are in seconds; `now` is monotonic."""

    stuck_after: float
    fresh_within: float | None = None
    _seen: Seen | None = None
    _born: float = 0.0
    _since: float = 0.0
    """When progress was last seen."""

    def look(self, now: float, seen: Seen) -> Verdict:
        """Take note of what is seen, and judge."""
        if self._moved(now, seen):
            self._since = now
            self._born = now - (seen.oldest or 0.0)
        self._seen = seen
        idle = now - self._since
        waits = seen.waits or 0.0
        return Verdict(
            stuck=idle if idle >= self.stuck_after else None,
            stale=waits if self.fresh_within is not None and waits > self.fresh_within else None,
        )

    def _moved(self, now: float, seen: Seen) -> bool:
        before = self._seen
        if before is None or not seen.events or not before.events:
            return True
        if seen.done != before.done or seen.events < before.events:
            return True
        return seen.oldest is not None and now - seen.oldest > self._born + _SAME


def in_seconds(given: float | timedelta) -> float:
    """Return a time that is given in seconds, or as a `timedelta`, in seconds."""
    return given.total_seconds() if isinstance(given, timedelta) else float(given)
