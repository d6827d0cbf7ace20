"""From which serial on a relay has to read, where serials are not in the order of the commits.

What a relay has deleted stays in PostgreSQL's index until it is vacuumed, and every read that
begins at the front passes over it: a backlog of millions would be read ever more slowly. But a read
may not simply begin behind the last serial: a transaction can commit late with an early one.

A serial is drawn inside an INSERT, and who inserts holds a lock on the table from before that until
its transaction ends. So if all who held that lock *after* some serial was seen have ended since,
whatever has a lower serial is visible by now, or will never be. Nobody is waited for: while a
transaction stays open, the reads only stay longer.

On SQLite nobody holds such a lock, and a floor spares the reads what is held back: one key, or one
topic, behind which many events wait.

The rules, without I/O:

- A *mark* is a serial that was seen, and the holders of the lock at a later moment.
- When none of them holds it any more, the mark is *settled*. When a read that began after that has
  been published and deleted as far as the mark, nothing below it is left: the floor is above it.
- A read that brings less than it may, or nothing, has come to the end: it counts as far as any
  mark, and the mark may be at the last serial that there is, whoever's it is. So a relay with few
  keys does not read over all that waits for another one again and again.
- A holder that was prepared for a commit in two phases goes by another name: while there is one,
  nothing is concluded.
- A relay that gets another part of the keys begins at the front, and so does each now and then, for
  serials that somebody has set back: the more rarely, the longer that takes.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

__all__ = ["FRONT", "LOOK", "Floor"]

LOOK: Final = 0.25
"""Seconds between two looks at who holds the lock."""
FRONT: Final = 10.0
"""Seconds between two reads from the front, at least."""
_SHARE: Final = 50
"""A read from the front is followed by so many times as long without one: 2% of the time at most.
"""
_PREPARED: Final = "-1/"


class Floor:
    """The floor of one relay. Times are of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.serial = 0
        """Read from here on."""
        self._done = 0
        self._ended = False
        self._mark: tuple[int, AbstractSet[str]] | None = None
        self._settled = self._reading = 0
        self._look_at = self._front_at = 0.0

    def front(self) -> None:
        """Begin at the front: something below may not be published."""
        self.serial = self._done = self._settled = self._reading = 0
        self._ended, self._mark = False, None

    def begin(self, now: float) -> int:
        """Return where a read that begins now has to begin."""
        self._reading = self._settled
        if now >= self._front_at:
            self._front_at = now + FRONT
            return 0
        return self.serial

    def took(self, start: int, seconds: float, now: float) -> None:
        """Note that a read from `start` has ended, and how long it took."""
        if not start:
            self._front_at = max(self._front_at, now + _SHARE * seconds)

    def done(self, serial: int | None) -> None:
        """Note that all that the last read brought is deleted; `serial` was its last.

        None: it came to the end, whatever it brought.
        """
        self._ended = serial is None
        self._done = max(self._done, serial or 0)
        if serial is None or serial >= self._reading:
            self.serial = max(self.serial, self._reading + 1)

    def wants_holders(self, now: float) -> bool:
        """Tell whether it is worth looking who holds the lock."""
        return now >= self._look_at

    @property
    def wants_last(self) -> bool:
        """Whether the last serial that there is, whoever's it is, may be the next mark."""
        return self._ended

    def held_by(self, holders: AbstractSet[str], now: float, *, last: int = 0) -> None:
        """Take note of who holds the lock, as looked up after the last `done`.

        `last` is the last serial, as looked up before the holders, if it is wanted.
        """
        self._look_at = now + LOOK
        if self._ended:
            self._done = max(self._done, last)
        if any(each.startswith(_PREPARED) for each in holders):
            return
        if self._mark is not None:
            serial, before = self._mark
            if before & holders:
                return
            self._settled = serial
        self._mark = self._done, holders
