"""What the broker refuses waits in the outbox, and everything else goes on.

An event is too large: it was written before it was known what its topic takes, or that was lowered
since. Or a topic is not there, not ours to write, or not as it has to be. Neither is published nor
lost, and nothing of a key is overtaken. The rules, without I/O:

- An event that is too large holds back its key, in every topic; one without a key itself alone.
- A topic that is refused holds back its own events alone. That keeps every order there is: events
  about one thing share topic and key.
- Now and then it is tried again. Keys all at once, for the first time after `_AGAIN` seconds, and
  the more often in vain, the more rarely: behind a key many events may wait, and all of them are
  read for it. Each topic by itself, and sooner: one that was just made is not known everywhere.
- A topic that was refused is published apart from others until the broker has taken something of
  it: what a broker had taken of others, before it refused, would be published again each time.
- Why something waits is told for as long as it does. With `_MOST` keys and topics held back nothing
  is published any more: by then it is something else that is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from switchgear.database.port import Row
from switchgear.events.brokers.port import RecordTooLarge, TopicRefused

__all__ = ["Refused"]

_MOST: Final = 100
_AGAIN: Final = 15.0
"""Seconds after which keys are tried again, for the first time; then twice as many."""
_AGAIN_MOST: Final = 240.0
_TOPIC_AGAIN: Final = 1.0
"""The same for a topic."""
_TOPIC_MOST: Final = 60.0


class _Again:
    """When something is tried again: `at`, after pauses from `first` to `most` seconds."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self.at = 0.0
        self._pause = 0.0
        """Seconds from when it was refused to the last attempt."""

    def later(self, now: float, *, vain: bool) -> None:
        """Try it later; `vain`: the last attempt has come to nothing."""
        longer = min(2.0 * self._pause, self._most) if vain else 0.0
        self._pause = longer or self._first
        self.at = now + self._pause


class Refused:
    """What one relay holds back. Times are of a monotonic clock, in seconds; rows the outbox's."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.rows: set[int] = set()
        """Those without a key, by their serial."""
        self.topics: set[str] = set()
        self._why: list[str] = []
        """Of keys and rows."""
        self._again = _Again(_AGAIN, _AGAIN_MOST)
        self._suspects: dict[str, tuple[str, _Again]] = {}
        """By topic, held back or tried again: why, and when."""

    def add(self, row: Row, error: RecordTooLarge, now: float) -> None:
        """Hold back the key of a row that was refused. Raises `error` where that is too much."""
        if self._many:
            # all events wait for this, so it is looked at soon
            self._again.at = min(self._again.at, now + _AGAIN)
            raise error
        if not self._why:
            self._again.later(now, vain=now < self._again.at + _AGAIN)
        number, _, key = row[:3]
        if key is None:
            self.rows.add(number)
        else:
            self.keys.add(key)
        name = "it" if key is None else f"the key {key}"
        self._why.append(f"{error} In the outbox {name} waits.")

    def add_topic(self, rows: Sequence[Row], error: TopicRefused, now: float) -> bool:
        """Hold back the topic of some of these rows, which was refused; tell whether that is news.

        Raises `error` where that is too much, and where it would change nothing: none is of it.
        """
        topic = error.topic
        if self._many or all(row[1] != topic for row in rows):
            raise error
        known = self._suspects.get(topic)
        again = _Again(_TOPIC_AGAIN, _TOPIC_MOST) if known is None else known[1]
        again.later(now, vain=known is not None)
        self.topics.add(topic)
        self._suspects[topic] = f"{error} In the outbox all of {topic} waits.", again
        return known is None

    def taken(self, rows: Sequence[Row]) -> Collection[str]:
        """Note that rows are published; return the topics that were refused before."""
        if not self._suspects:
            return ()
        well = sorted({row[1] for row in rows} & self._suspects.keys())
        for topic in well:
            del self._suspects[topic]
        return well

    def parted(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """Return rows as they are published together; each topic stays in order."""
        if not self._suspects:
            return [rows]
        alone: dict[str, list[Row]] = {topic: [] for topic in self._suspects}
        others: list[Row] = []
        for row in rows:
            alone.get(row[1], others).append(row)
        return [others, *alone.values()]

    @property
    def any(self) -> bool:
        """Whether something is held back."""
        return bool(self._why or self.topics)

    def holds(self, row: Row) -> bool:
        """Tell whether a row is not to be published for now."""
        return row[1] in self.topics or row[2] in self.keys or row[0] in self.rows

    @property
    def why(self) -> str | None:
        """What to tell of it: the first one, and how many there are; None: nothing waits."""
        told = [self._suspects[topic][0] for topic in sorted(self.topics)] + self._why
        if not told:
            return None
        others = len(told) - 1
        return f"{told[0]} So do {others} more." if others else told[0]

    def again(self, now: float) -> bool:
        """Tell whether something is to be tried again, which is not held back then."""
        due = {topic for topic in self.topics if now >= self._suspects[topic][1].at}
        self.topics -= due
        if self._why and now >= self._again.at:
            self.keys, self.rows, self._why = set(), set(), []
            return True
        return bool(due)

    @property
    def _many(self) -> bool:
        return len(self.keys) + len(self.rows) + len(self.topics) >= _MOST
