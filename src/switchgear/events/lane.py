"""One lane, one partition's watermark, and the words that `lanes` and its driver share.

The rules are at the head of `switchgear.events.lanes`.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

__all__ = ["Cause", "Kind", "Lane", "OnFailure", "Settings", "State", "Track", "Work"]

P = TypeVar("P")
E = TypeVar("E")
OnFailure = Literal["block_key", "park_key", "skip"]

_DOUBLINGS: Final = 32


class State(Enum):
    """Where the events of a lane are."""

    OPEN = "open"
    DRAINING = "draining"
    HELD = "held"


class Kind(Enum):
    """What the driver is asked to do."""

    RUN = "run"
    """Handle `entries` in order."""
    STORE = "store"
    """Write `entries` to the end of the store's queue of the lane, in order."""
    STORE_ALONE = "store-alone"
    """Write the one entry to a queue of its own, which waits for a person."""
    DRAIN = "drain"
    """Handle the head of the store's queue of the lane, and as many after it as seems good."""
    HOLD = "hold"
    """Mark the store's queue of the lane as waiting for a person."""


class Cause(Enum):
    """Why the first of the entries goes to the store. Those after it are `BEHIND`."""

    FAILED = "failed"
    POISON = "poison"
    BLOCKED = "blocked"
    """It is still being tried."""
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Settings:
    """How one subscription treats its events. Times are in seconds."""

    on_failure: OnFailure
    attempts: int = 8
    """Under `park_key` and `skip`: how often an event is tried in all."""
    backoff: float = 0.1
    """The first pause; each further one is twice as long, less up to half of it at random."""
    backoff_most: float = 30.0
    capacity: int = 2_000
    window: int = 20_000
    spill_events: int = 100
    spill_seconds: float = 30.0
    spill_grace: float = 1.0
    """A lane that has been failing for less stays in memory, however full it is."""
    join: bool = False
    """What arrives behind the store joins it at once: another member may be working it off."""

    def pause(self, attempts: int, draw: float) -> float:
        """Return the pause after so many failures; `draw` is in [0, 1)."""
        whole = min(self.backoff * 2.0 ** min(attempts - 1, _DOUBLINGS), self.backoff_most)
        return whole * (1.0 - draw / 2)


@dataclass(slots=True, eq=False)
class Track(Generic[P, E]):
    """One partition: which offsets are outstanding, and its lanes by name."""

    name: P
    next: int
    """The offset after the newest that was added."""
    committed: int
    outstanding: deque[int] = field(default_factory=deque)
    """From the watermark on, finished ones among them included."""
    finished: set[int] = field(default_factory=set)
    lanes: dict[str, Lane[P, E]] = field(default_factory=dict)
    running: int = 0
    stopping: bool = False
    paused: bool = False

    @property
    def watermark(self) -> int:
        """The offset below which everything is finished."""
        return self.outstanding[0] if self.outstanding else self.next

    def accept(self, offset: int) -> bool:
        """Take note of a new offset; an older one is refused."""
        if offset < self.next:
            return False
        self.next = offset + 1
        self.outstanding.append(offset)
        return True

    def finish(self, offset: int) -> None:
        """Take note that `offset` is handled, stored or nothing to us."""
        self.finished.add(offset)
        while self.outstanding and self.outstanding[0] in self.finished:
            self.finished.remove(self.outstanding.popleft())


@dataclass(slots=True, eq=False)
class Work(Generic[P, E]):
    """One piece of work. Its result is told by exactly one of the methods of `Lanes`."""

    # not frozen: it would cost twice as much to make, and one is made for each event

    kind: Kind
    partition: P
    name: str
    """The lane's."""
    entries: tuple[tuple[int, E], ...]
    """Offsets and events; empty for DRAIN and HOLD."""
    attempts: int
    """How often the first event has failed so far."""
    error: str
    """How it failed the last time."""
    cause: Cause
    hold: bool
    """For STORE: whether the queue then waits for a person."""
    lane: Lane[P, E] = field(repr=False)

    @property
    def revoked(self) -> bool:
        """The partition is another member's by now: do not commit."""
        return self.lane.gone


@dataclass(slots=True, eq=False)
class Lane(Generic[P, E]):
    """The queue of one key."""

    partition: Track[P, E]
    name: str
    alone: bool
    """No other event will ever have this lane."""
    settings: Settings
    state: State = State.OPEN
    entries: deque[tuple[int, E]] = field(default_factory=deque)
    attempts: int = 0
    """Failures of the head so far."""
    error: str = ""
    due: float = 0.0
    """The head is not tried before."""
    hold_off: float = 0.0
    """Nothing at all is begun before: the driver could not do its work."""
    failing_since: float | None = None
    verdict: Kind | None = None
    """The head has failed for good: what is to be done with it."""
    poison: bool = False
    busy: bool = False
    queued: bool = False
    timer: float | None = None
    gone: bool = False

    def reset(self) -> None:
        """Forget the failures: another event is at the head."""
        self.attempts, self.error, self.due, self.poison = 0, "", 0.0, False
        self.failing_since, self.verdict = None, None

    def fail(self, kind: Kind, now: float, error: str, *, poison: bool) -> None:
        """Take note that the head has failed, and decide what is to be done with it."""
        self.attempts += 1
        self.error = error
        self.poison = poison
        if self.failing_since is None:
            self.failing_since = now
        on_failure = self.settings.on_failure
        used_up = on_failure != "block_key" and self.attempts >= self.settings.attempts
        if not (poison or used_up):
            return
        if kind is Kind.DRAIN:
            self.verdict = Kind.HOLD
        elif self.state is State.OPEN:
            self.verdict = Kind.STORE_ALONE if on_failure == "skip" else Kind.STORE
        # else it was redriven while it ran: the store comes first, then this is tried again

    def crowded(self, now: float, *, pressed: bool) -> bool:
        """Tell whether what waits behind a failing head or behind the store is to move (rule 5)."""
        when = self._moves(pressed=pressed)
        return when is not None and when <= now

    def _moves(self, *, pressed: bool) -> float | None:
        """Return from when on it is crowded, as things are; None: it is not."""
        opened = self.state is State.OPEN
        if not self.entries or self.verdict is not None or self.state is State.HELD:
            return None
        full = pressed or len(self.entries) - opened > self.settings.spill_events
        if not opened and self.settings.join:
            full = True
        if self.failing_since is None:
            return 0.0 if full and not opened else None
        after = self.settings.spill_grace if full else self.settings.spill_seconds
        return self.failing_since + after

    def when(self, *, pressed: bool) -> float | None:
        """Return when there is work to begin; None: not before something happens to the lane."""
        if self.failing_since is None and self.state is State.OPEN:
            return self.hold_off if self.entries else None
        if self.verdict is not None:
            return self.hold_off
        if not self.entries and self.state is not State.DRAINING:
            return None
        if self.state is State.HELD:
            return self.hold_off
        when = self.due
        moves = self._moves(pressed=pressed)
        if moves is not None:
            when = min(when, moves)
        return max(when, self.hold_off)

    def next(self, now: float, limit: int, *, pressed: bool) -> Work[P, E] | None:
        """Return the work to begin now, with at most `limit` events if it is a RUN."""
        when = self.when(pressed=pressed)
        if when is None or when > now:
            return None
        everything = len(self.entries)
        if self.failing_since is None and self.state is State.OPEN:
            return self._work(Kind.RUN, min(limit, everything))
        if self.verdict is not None:
            size = {Kind.HOLD: 0, Kind.STORE_ALONE: 1}.get(self.verdict, everything)
            return self._work(self.verdict, size, hold=True)
        if self.state is State.HELD or self.crowded(now, pressed=pressed):
            return self._work(Kind.STORE, everything, hold=self.state is State.HELD)
        if self.state is State.DRAINING:
            return self._work(Kind.DRAIN, 0)
        # an event that has failed runs by itself, so that it cannot spoil others again
        return self._work(Kind.RUN, 1 if self.attempts else min(limit, everything))

    def _work(self, kind: Kind, size: int, *, hold: bool = False) -> Work[P, E]:
        if self.verdict is not None:
            cause = Cause.POISON if self.poison else Cause.FAILED
        else:
            cause = Cause.BLOCKED if self.state is State.OPEN else Cause.BEHIND
        return Work(
            kind,
            self.partition.name,
            self.name,
            tuple(itertools.islice(self.entries, size)),
            self.attempts,
            self.error,
            cause,
            hold,
            self,
        )
