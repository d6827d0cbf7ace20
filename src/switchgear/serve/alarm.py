"""Alarms that nearly never ring: one timer for all requests of an event loop.

A timer of its own for every request costs more than the rest of the pipeline. So alarms stand in
dictionaries by the slot of 1/128 s in which they are due, and the loop has one timer, for the
earliest slot. An alarm rings at most 8 ms late, never early.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextvars import Context
from math import inf
from time import monotonic
from types import TracebackType
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

__all__ = ["Alarms", "Bell", "Interruption", "Slot", "Within", "alarms"]

_SLOTS_A_SECOND: Final = 128

Bell: TypeAlias = Callable[[], None]
Slot: TypeAlias = dict[Bell, None]


class Alarms:
    """The alarms of one event loop. Times are monotonic seconds."""

    __slots__ = ("_armed", "_due", "_loop", "_slots", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, Slot] = {}
        self._due: list[int] = []
        """A heap of the keys of `_slots`."""
        self._armed: float = inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float, bell: Bell) -> Slot:
        """Ring `bell` at `when`, unless it is taken out of the slot before: `slot.pop(bell, None)`.

        Each bell is an object of its own.
        """
        number = int(when * _SLOTS_A_SECOND) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heapq.heappush(self._due, number)
            if number < self._armed:
                self._arm(number)
        slot[bell] = None
        return slot

    def _arm(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = number
        delay = max(0.0, number / _SLOTS_A_SECOND - monotonic())
        # an empty context: the timer outlives the request that happens to arm it
        self._timer = self._loop.call_later(delay, self._ring, context=Context())

    def _ring(self) -> None:
        self._timer, self._armed = None, inf
        now = monotonic() * _SLOTS_A_SECOND
        due = self._due
        while due and (due[0] <= now or not self._slots[due[0]]):
            slot = self._slots.pop(heapq.heappop(due))
            bells = list(slot)
            slot.clear()
            for bell in bells:
                bell()
        if due:
            self._arm(due[0])


class Interruption:
    """Cancels the task of a `with` block, and tells afterwards whether that is why it ended.

    Whose cancellation it was is told as `asyncio.timeout` tells it: by the count of
    `Task.cancelling`. If somebody else cancels too, that is never swallowed.
    """

    __slots__ = ("_done", "_task")

    def __init__(self) -> None:
        self._done = False
        self._task = asyncio.current_task()

    def interrupt(self) -> None:
        """Cancel the task, unless its block has ended."""
        if self._task is not None:
            self._done = True
            self._task.cancel()

    def end(self, error: BaseException | None) -> bool:
        """Return whether `error`, which ends the block, is the cancellation by this object."""
        task, self._task = self._task, None
        if not self._done or task is None:
            return False
        return not task.uncancel() and isinstance(error, asyncio.CancelledError)


class Within(Interruption):
    """Cancels the task of the `with` block at a monotonic time; then `late()` is raised."""

    __slots__ = ("_slot",)

    def __init__(self, when: float) -> None:
        super().__init__()
        self._slot = alarms().set(when, self.interrupt)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slot.pop(self.interrupt, None)
        if self.end(error):
            raise self.late(error) from error

    def late(self, error: BaseException | None) -> Exception:
        """Return what is raised in place of `error`, the cancellation."""
        del error
        return TimeoutError()


_of: WeakKeyDictionary[asyncio.AbstractEventLoop, Alarms] = WeakKeyDictionary()


def alarms() -> Alarms:
    """Return the alarms of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _of.get(loop)
    if found is None:
        found = _of[loop] = Alarms(loop)
    return found
