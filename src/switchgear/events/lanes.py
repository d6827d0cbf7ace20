"""The per-key scheduler of one subscription. No I/O, no clock, no randomness: they are arguments.

A lane is the queue of one key in one partition; an event without a key has a lane of its own. The
driver gives lanes their names. `lane.py` has one lane and its decisions, this module all of them.

    OPEN      events wait in memory; the first may be running, or waiting to be tried again
    DRAINING  earlier events of the key are in the store (the consumer's database) and are worked
              off from their head; those in memory come after them
    HELD      the store's queue waits for a person; what arrives joins it

The rules:

1.  A lane has at most one piece of work at a time, so the events of a key run one after the other,
    in the order of their offsets. Lanes run side by side.
2.  An event that fails stays at the head of its lane and is tried again after a pause that doubles,
    with jitter. Only its lane waits.
3.  `park_key`: after `attempts`, the failed event and those behind it go to the store together, and
    the lane is HELD. `skip`: the failed event goes to the store alone, and the lane goes on.
    `block_key`: it is tried again for ever.
4.  Poison (an event that cannot be read) is not tried again. Its key is HELD, also under
    `block_key`, since passing over it would break the order; under `skip` it is stored alone.
5.  A lane whose head fails may not hold the partition up for ever: once it has been failing for
    `spill_seconds`, or for `spill_grace` while more than `spill_events` wait behind it or such
    lanes fill half of memory, its events move to the store in order, the lane is DRAINING, and its
    head is tried again from there. What arrives meanwhile joins the store under the same bounds.
6.  DRAINING ends when the store has no more of the key: the lane is OPEN and goes on with what is
    in memory. Under `park_key`, a head that uses up its attempts there makes the lane HELD.
7.  A partition's watermark is the offset below which everything is handled or stored. It never
    goes back, and only it is committed.
8.  Memory is bounded: `capacity` events in all, and `window` offsets of one partition between its
    watermark and the newest. At the first bound nothing is polled, at the second the partition is
    paused.
9.  A revoked partition's lanes are gone, and results of their work change nothing.

Where every key is a partition of its own, any member may get its next event. So each event comes
with the state of its lane in the store (`add`), what arrives behind the store joins it at once,
and one member of the group works the store off: it adopts the queues that are ready (`adopt`),
for the others they are `elsewhere`. A partition of which nothing is left is forgotten (`tidy`).
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Final, Generic, TypeVar

from switchgear.events.lane import Cause, Kind, Lane, OnFailure, Settings, State, Track, Work

__all__ = ["Cause", "Kind", "Lanes", "OnFailure", "Settings", "State", "Work"]

P = TypeVar("P", bound=Hashable)
E = TypeVar("E")

_MEASURE: Final = 0.1


class Lanes(Generic[P, E]):
    """The lanes of one subscription; `P` names a partition, `E` is an event."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._partitions: dict[P, Track[P, E]] = {}
        self._ready: deque[Lane[P, E]] = deque()
        self._timers: list[tuple[float, int, Lane[P, E]]] = []
        self._numbers = itertools.count()
        self._held = 0
        self._pressed = False
        self._measure_at = 0.0

    # ownership

    def assign(self, partition: P, position: int, stored: Mapping[str, State], now: float) -> None:
        """Begin with a partition at its committed position; `stored` are its lanes in the store.

        What is assigned again was another member's in between: its old lanes are gone.
        """
        self.revoke(partition)
        owned: Track[P, E] = Track(partition, position, position)
        self._partitions[partition] = owned
        for name, state in stored.items():
            self._schedule(self._lane(owned, name, state), now)

    def admit(self, partition: P, offset: int) -> None:
        """Begin with a partition at the offset of an event that arrived, unless it is known."""
        owned = self._partitions.get(partition)
        if owned is None:
            self._partitions[partition] = Track(partition, offset, offset)
        elif not owned.outstanding:
            owned.next = owned.committed = offset

    def adopt(self, partition: P, name: str, now: float) -> None:
        """Work off the store's queue of the lane `name`, of a partition that may be nobody's."""
        if partition not in self._partitions:
            self._partitions[partition] = Track(partition, 0, 0)
        self.redrive(partition, name, now)

    def tidy(self, partitions: Iterable[P]) -> None:
        """Forget those of which nothing is left to do and to commit; the store has the rest."""
        for partition in partitions:
            owned = self._partitions.get(partition)
            if owned is None or owned.running or owned.committed < owned.watermark:
                continue
            if any(lane.entries or lane.state is State.DRAINING for lane in owned.lanes.values()):
                continue
            self.revoke(partition)

    def stop(self, partition: P) -> None:
        """Begin no more work of `partition`; what runs may finish."""
        if partition in self._partitions:
            self._partitions[partition].stopping = True

    def revoke(self, partition: P) -> None:
        """Forget `partition`: it is another member's."""
        owned = self._partitions.pop(partition, None)
        if owned is None:
            return
        for lane in owned.lanes.values():
            lane.gone = True
            self._held -= len(lane.entries)

    def idle(self, partition: P) -> bool:
        """Tell whether no work of `partition` is running."""
        owned = self._partitions.get(partition)
        return owned is None or owned.running == 0

    def partitions(self) -> list[P]:
        """Return the partitions that were assigned and not revoked."""
        return list(self._partitions)

    # arrivals

    def add(
        self,
        partition: P,
        offset: int,
        name: str,
        event: E,
        now: float,
        *,
        alone: bool = False,
        state: State = State.OPEN,
    ) -> None:
        """Take an event for the lane `name`, `alone` if it is the only one there will ever be.

        Offsets of a partition grow; an older one is ignored, and so is what is not owned. `state`
        is that of a lane that is not in memory.
        """
        owned = self._partitions.get(partition)
        if owned is None or not owned.accept(offset):
            return
        lane = owned.lanes.get(name)
        if lane is None:
            lane = self._lane(owned, name, state, alone=alone)
        lane.entries.append((offset, event))
        self._held += 1
        if not lane.busy and not lane.queued:
            self._schedule(lane, now)

    def pass_over(self, partition: P, offset: int) -> None:
        """Take note of an event that is nothing to this subscription."""
        owned = self._partitions.get(partition)
        if owned is not None and owned.accept(offset):
            owned.finish(offset)

    def redrive(self, partition: P, name: str, now: float) -> None:
        """Work off the store's queue of the lane `name`: it is released, or empty."""
        owned = self._partitions.get(partition)
        if owned is None:
            return
        lane = owned.lanes.get(name)
        if lane is None:
            lane = self._lane(owned, name, State.OPEN)
        if lane.state is State.DRAINING:
            return
        if lane.state is State.HELD:
            lane.reset()
        lane.state = State.DRAINING
        self._schedule(lane, now)

    def holding(self, partition: P) -> list[str]:
        """Return the lanes of `partition` that wait for a person."""
        owned = self._partitions.get(partition)
        lanes = owned.lanes.values() if owned is not None else ()
        return [lane.name for lane in lanes if lane.state is State.HELD]

    # work

    def take(self, now: float, limit: int) -> list[Work[P, E]]:
        """Return work to begin now, of different lanes, with at most `limit` events in all.

        Each piece is to be answered by `done`, `empty`, `held_back`, `failed` or `postponed`.
        """
        if now >= self._measure_at:
            self._measure(now)
        self._wake(now)
        share = max(1, limit // max(1, len(self._ready)))
        found: list[Work[P, E]] = []
        while self._ready and limit > 0:
            lane = self._ready.popleft()
            lane.queued = False
            if lane.gone or lane.busy or lane.partition.stopping:
                continue
            work = lane.next(now, min(share, limit), pressed=self._pressed)
            if work is None:
                self._schedule(lane, now)
                continue
            lane.busy = True
            lane.partition.running += 1
            limit -= max(1, len(work.entries)) if work.kind is Kind.RUN else 1
            found.append(work)
        return found

    def due(self) -> float | None:
        """Return when `take` will next have something, as far as is known; None: not by itself."""
        if self._ready:
            return 0.0
        due = self._timers[0][0] if self._timers else None
        if due is not None and self.room() == 0:
            return min(due, self._measure_at)
        return due

    def done(self, work: Work[P, E], now: float, handled: int | None = None) -> None:
        """Take note that work was carried out; of a RUN, its first `handled` events (None: all)."""
        lane = work.lane
        if not self._end(lane):
            return
        finished = len(work.entries) if handled is None else min(handled, len(work.entries))
        self._finish(lane, finished)
        if work.kind is Kind.HOLD:
            lane.state = State.HELD
            lane.reset()
        elif work.kind is Kind.STORE and not work.hold:
            lane.state = State.DRAINING
        elif work.kind is Kind.STORE:
            if lane.alone:
                lane.state = State.OPEN  # nothing to wait for: `redrive` makes the lane again
            elif lane.state is not State.DRAINING:  # else it was released meanwhile
                lane.state = State.HELD
            lane.reset()
        elif finished or work.kind is Kind.DRAIN:
            lane.reset()
        self._schedule(lane, now)

    def empty(self, work: Work[P, E], now: float) -> None:
        """For DRAIN: the store has no more events of the lane."""
        self._settle(work.lane, State.OPEN, now)

    def held_back(self, work: Work[P, E], now: float) -> None:
        """For DRAIN: the head of the store's queue waits for a person."""
        self._settle(work.lane, State.HELD, now)

    def elsewhere(self, work: Work[P, E], now: float) -> None:
        """For DRAIN and HOLD: another member works the store off. What is in memory joins it."""
        lane = work.lane
        if not self._end(lane):
            return
        lane.reset()
        if lane.entries:
            self._schedule(lane, now)
        else:
            del lane.partition.lanes[lane.name]
            lane.gone = True

    def failed(
        self,
        work: Work[P, E],
        now: float,
        draw: float,
        *,
        error: str = "",
        handled: int = 0,
        poison: bool = False,
    ) -> float | None:
        """Of a RUN or DRAIN, the event after the first `handled` ones failed.

        Returns the pause before it is tried again, or None if it is not. `draw` is in [0, 1).
        """
        lane = work.lane
        if not self._end(lane):
            return None
        if handled:
            self._finish(lane, min(handled, len(work.entries)))
            lane.reset()
        lane.fail(work.kind, now, error, poison=poison)
        pause = None
        if lane.verdict is None:
            pause = self.settings.pause(lane.attempts, draw)
            lane.due = now + pause
        self._schedule(lane, now)
        return pause

    def postponed(self, work: Work[P, E], now: float, pause: float = 0.0) -> None:
        """Nothing was carried out, and not because of the event: it is tried again later."""
        lane = work.lane
        if self._end(lane):
            lane.hold_off = now + pause
            self._schedule(lane, now)

    # what the driver reads

    def room(self) -> int:
        """Return how many more events may be taken."""
        return max(0, self.settings.capacity - self._held)

    def pauses(self) -> tuple[list[P], list[P]]:
        """Return the partitions to pause and to resume since the last call."""
        pause: list[P] = []
        resume: list[P] = []
        for owned in self._partitions.values():
            width = len(owned.outstanding)
            if not owned.paused and width >= self.settings.window:
                owned.paused = True
                pause.append(owned.name)
            elif owned.paused and width <= self.settings.window // 2:
                owned.paused = False
                resume.append(owned.name)
        return pause, resume

    def positions(self) -> dict[P, int]:
        """Return the watermarks that are ahead of what was committed."""
        return {
            owned.name: owned.watermark
            for owned in self._partitions.values()
            if owned.watermark > owned.committed
        }

    def committed(self, positions: Mapping[P, int]) -> None:
        """Take note of what was committed."""
        for partition, position in positions.items():
            if partition in self._partitions:
                self._partitions[partition].committed = position

    def blocked(self) -> int:
        """Return how many lanes wait for their first event to be tried again."""
        return sum(1 for lane in self._lanes() if lane.failing_since is not None)

    def running(self) -> int:
        """Return how many pieces of work are running."""
        return sum(owned.running for owned in self._partitions.values())

    def held(self) -> int:
        """Return how many events are in memory."""
        return self._held

    # inside

    def _lane(
        self, owned: Track[P, E], name: str, state: State, *, alone: bool = False
    ) -> Lane[P, E]:
        lane = owned.lanes[name] = Lane(owned, name, alone, self.settings, state)
        return lane

    def _lanes(self) -> Iterator[Lane[P, E]]:
        return (lane for owned in self._partitions.values() for lane in owned.lanes.values())

    def _end(self, lane: Lane[P, E]) -> bool:
        """Take the work's end; tell whether the lane still exists."""
        lane.busy = False
        lane.partition.running -= 1
        return not lane.gone

    def _settle(self, lane: Lane[P, E], state: State, now: float) -> None:
        if self._end(lane):
            lane.state = state
            lane.reset()
            self._schedule(lane, now)

    def _finish(self, lane: Lane[P, E], number: int) -> None:
        for _ in range(number):
            offset, _ = lane.entries.popleft()
            lane.partition.finish(offset)
        self._held -= number

    def _schedule(self, lane: Lane[P, E], now: float) -> None:
        """Put a lane that is not busy where it belongs: ready, waiting for a time, or nowhere."""
        if lane.busy or lane.queued or lane.gone:
            return
        when = lane.when(pressed=self._pressed)
        if when is None:
            if lane.state is State.OPEN and not lane.entries:
                del lane.partition.lanes[lane.name]
                lane.gone = True
        elif when <= now:
            lane.queued = True
            self._ready.append(lane)
        elif lane.timer is None or when < lane.timer:
            lane.timer = when
            heapq.heappush(self._timers, (when, next(self._numbers), lane))

    def _wake(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            lane = heapq.heappop(self._timers)[2]
            lane.timer = None
            self._schedule(lane, now)

    def _measure(self, now: float) -> None:
        """See whether lanes that cannot go on fill half of memory; if so, they are to move."""
        self._measure_at = now + _MEASURE
        half = self.settings.capacity / 2
        stuck: list[Lane[P, E]] = []
        if self._held >= half:
            latest = now - self.settings.spill_grace
            stuck = [
                lane
                for lane in self._lanes()
                if lane.state is State.DRAINING
                or (lane.failing_since is not None and lane.failing_since <= latest)
            ]
        self._pressed = sum(len(lane.entries) for lane in stuck) >= half
        if self._pressed:
            for lane in stuck:
                self._schedule(lane, now)
