"""What the broker refuses for its size: its key waits in the outbox, and the other keys go on.

Such an event was written before it was known what its topic takes, or that was lowered since. It is
not published and not lost, and nothing of its key overtakes it. The rules, without I/O:

- The key is held back, in every topic; an event without a key alone.
- Now and then everything is tried again: the topic may take more by then. The more often in vain,
  the more rarely: behind a key many events may wait, and all of them are read for it.
- Why something waits is told for as long as it does. With `_MOST` keys held back nothing is
  published any more: by then it is the topic that is wrong, and not an event.
"""

from __future__ import annotations

from typing import Final

from switchgear.database.port import Row
from switchgear.events.brokers.port import RecordTooLarge

__all__ = ["Refused"]

_MOST: Final = 100
_AGAIN: Final = 15.0
"""Seconds after which what is held back is tried again, for the first time; then twice as many."""
_AGAIN_MOST: Final = 240.0


class Refused:
    """What one relay holds back. Times are of a monotonic clock, in seconds; rows the outbox's."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.rows: set[int] = set()
        """Those without a key, by their serial."""
        self._why: list[str] = []
        self._again_at = 0.0
        self._pause = 0.0
        """Seconds from when something was refused to the last attempt."""

    def add(self, row: Row, error: RecordTooLarge, now: float) -> None:
        """Hold back the key of a row that was refused. Raises `error` where that is too much."""
        if len(self.keys) + len(self.rows) >= _MOST:
            # all events wait for this, so it is looked at soon
            self._again_at = min(self._again_at, now + _AGAIN)
            raise error
        if not self._why:
            vain = now < self._again_at + _AGAIN
            self._pause = min(2.0 * self._pause, _AGAIN_MOST) if vain and self._pause else _AGAIN
            self._again_at = now + self._pause
        number, _, key = row[:3]
        if key is None:
            self.rows.add(number)
        else:
            self.keys.add(key)
        name = "it" if key is None else f"the key {key}"
        self._why.append(f"{error} In the outbox {name} waits.")

    @property
    def any(self) -> bool:
        """Whether something is held back."""
        return bool(self._why)

    def holds(self, row: Row) -> bool:
        """Tell whether a row is not to be published for now."""
        return row[2] in self.keys or row[0] in self.rows

    @property
    def why(self) -> str | None:
        """What to tell of it: the first one, and how many there are; None: nothing waits."""
        if not self._why:
            return None
        others = len(self._why) - 1
        return f"{self._why[0]} So do {others} more." if others else self._why[0]

    def again(self, now: float) -> bool:
        """Tell whether everything is to be tried again; then nothing is held back."""
        if not self._why or now < self._again_at:
            return False
        self.keys, self.rows, self._why = set(), set(), []
        return True
