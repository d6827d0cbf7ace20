"""Deadlines that share a timer.

A timer per call costs several times what the rest of a policy does, and nearly none ever fires. So
each event loop has one `Wheel`: who has a deadline stands in a dictionary by the slot of 1/256 s in
which it is due, and the loop holds one timer, for the earliest slot with anybody in it. It is
cancelled in the slot after its deadline: at most 4 ms late, never early. Who is no longer in its
bucket when it ends was cancelled by the wheel.
"""

from __future__ import annotations

import asyncio
import heapq
from contextvars import Context as VariableContext
from math import inf
from time import monotonic
from typing import Protocol

from switchgear.call.process import in_a_forked_process

__all__ = ["SLOTS_A_SECOND", "Bucket", "Due", "Wheel", "new_wheel", "wheels"]

SLOTS_A_SECOND = 256


class Due(Protocol):
    """Who can be told that its time has come; a task is cancelled by it."""

    def cancel(self) -> object:
        """Take note that the time has come."""


Bucket = dict[object, Due]


class Wheel:
    """What is due in one event loop, by when."""

    __slots__ = ("_armed", "_due", "_loop", "_timer", "buckets")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.buckets: dict[int, Bucket] = {}
        self._due: list[int] = []
        """A heap of the slots in `buckets`."""
        self._armed: float = inf
        """The slot that the timer waits for."""
        self._timer: asyncio.TimerHandle | None = None

    def put(self, key: object, time: float, due: Due) -> Bucket:
        """Have `due` cancelled when a time has come; return where it stands, to take it out."""
        slot = int(time * SLOTS_A_SECOND) + 1
        bucket = self.buckets.get(slot) or self.open(slot)
        bucket[key] = due
        return bucket

    def open(self, slot: int) -> Bucket:
        """Return where those of a slot stand until they are taken out, or cancelled."""
        bucket = self.buckets.get(slot)
        if bucket is None:
            bucket = self.buckets[slot] = {}
            heapq.heappush(self._due, slot)
            if slot < self._armed:
                self._arm(slot)
        return bucket

    def _arm(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = slot
        delay = max(0.0, slot / SLOTS_A_SECOND - monotonic())
        # an empty context: the timer outlives the call that happens to arm it
        self._timer = self._loop.call_later(delay, self._fire, context=VariableContext())

    def _fire(self) -> None:
        self._timer, self._armed = None, inf
        now = monotonic() * SLOTS_A_SECOND
        due = self._due
        while due and (due[0] <= now or not self.buckets[due[0]]):
            bucket = self.buckets.pop(heapq.heappop(due))
            overdue = list(bucket.values())
            bucket.clear()
            for due_now in overdue:
                due_now.cancel()
        if due:
            self._arm(due[0])


wheels: dict[asyncio.AbstractEventLoop, Wheel] = {}
in_a_forked_process(wheels.clear)


def new_wheel(loop: asyncio.AbstractEventLoop) -> Wheel:
    """Return the wheel of a loop that has none yet, or as it turns out has one."""
    # a plain dictionary is several times quicker than a weak one; who adds to it sweeps it
    for other in list(wheels):
        if other.is_closed():
            wheels.pop(other, None)
    return wheels.setdefault(loop, Wheel(loop))
