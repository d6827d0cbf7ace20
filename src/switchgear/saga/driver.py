"""Drives one saga: asks the machine, attempts, writes a line, and asks again.

Every line is durable before anything that follows from it begins. A saga that has nothing to do
now (its next attempt is later, it waits for a person, the worker stops) is released in the same
commit as the line that said so, and is claimed again when it is due: nothing waits in memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from switchgear.saga import machine
from switchgear.saga.acting import settled
from switchgear.saga.attempt import Answer, Attempts, Instance
from switchgear.saga.guard import Guards
from switchgear.saga.outage import Outage
from switchgear.saga.plan import Side
from switchgear.saga.report import report_line, report_start
from switchgear.saga.state import (
    Answered,
    Entry,
    Happening,
    Next,
    Run,
    State,
    What,
)
from switchgear.saga.stores.port import Line, NewItem, Store, Turn, Write
from switchgear.saga.stores.units import Units
from switchgear.saga.story import FAILED

__all__ = ["ENDED", "Driver"]

T = TypeVar("T")
ENDED = frozenset({"done", "undone"})

_log = logging.getLogger("switchgear.saga")
_FIRST_WAIT, _MOST_WAIT = 0.05, 1.0


class Driver:
    """Drives `instance` until it ends, rests, waits for a person, or is lost to another worker."""

    def __init__(
        self,
        instance: Instance,
        store: Store,
        units: Units,
        *,
        outage: Outage,
        clock: Callable[[], float],
        rng: random.Random,
        guards: Guards,
    ) -> None:
        self.instance = instance
        self._store = store
        self._units = units
        self._outage = outage
        self._clock = clock
        self._rng = rng
        self._attempts = Attempts(instance, clock, guards.of(instance.saga))
        self._flying: dict[str, tuple[Run, asyncio.Task[Answer]]] = {}
        self._stopping = False
        self._halted = False
        self._cut = False

    def stop(self) -> None:
        """Begin no further attempt; release the saga when the running ones have ended."""
        self._stopping = True

    def halt(self) -> None:
        """Cut running attempts short; they count as interrupted, and the saga is released."""
        self._stopping = self._halted = True
        self._attempts.halt()

    async def run(self) -> None:
        """Go on until there is nothing more that this worker can do now."""
        if self.instance.story.seq == 0:
            report_start(self.instance.saga.plan, self.instance.row.id)
        try:
            while await self._advance():
                pass
        finally:
            # only if the lease was lost, or the database: another worker goes on
            for _, task in self._flying.values():
                task.cancel()

    async def _advance(self) -> bool:
        """Do the next thing; False when the saga is no longer in this worker's hands."""
        if self._halted and self._flying:
            return await self._land(None)
        now = self._clock()
        if self._cut:
            entry = Entry(What.INTERRUPTED, Next.AGAIN, now)
            return await self._write(Line(entry, None, None))
        plan, state = self.instance.saga.plan, self.instance.story.state
        happening = machine.happening(plan, state, now, self._flying)
        if happening is not None:
            return await self._tell(happening)
        todo = machine.runs(plan, state)
        waiting = [run for run in todo if run.step not in self._flying]
        ready = [] if self._stopping else [run for run in waiting if run.due <= now]
        if not self._flying and not ready:
            return await self._rest(waiting, now)
        if not self._flying and len(waiting) == 1:
            # the usual case, without a task of its own
            return await self._answered(ready[0], await self._attempts.run(ready[0]))
        for run in ready:
            task = asyncio.create_task(self._attempts.run(run), name=f"{run.step} {run.side}")
            self._flying[run.step] = run, task
        later = [run.due - now for run in waiting if run.step not in self._flying]
        return await self._land(min(later) if later and not self._stopping else None)

    async def _land(self, seconds: float | None) -> bool:
        """Wait for the first running attempt to end, and write down those that have."""
        tasks = [task for _, task in self._flying.values()]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for run, task in list(self._flying.values()):
            if task.done():
                del self._flying[run.step]
                if not await self._answered(run, task.result()):
                    return False
        return True

    async def _answered(self, run: Run, answer: Answer) -> bool:
        if answer.what is None:
            self._cut = True
            return True
        answered = Answered(
            run.step, run.side, answer.what, partial=answer.partial, retry_after=answer.retry_after
        )
        return await self._tell(answered, began=answer.began, data=answer.data)

    async def _tell(
        self, happening: Happening, *, began: float | None = None, data: bytes | None = None
    ) -> bool:
        entry = machine.decide(
            self.instance.saga.plan,
            self.instance.story.state,
            happening,
            now=self._clock(),
            draw=self._rng.random(),
        )
        return await self._write(Line(entry, began, data))

    async def _write(self, line: Line) -> bool:
        """Write a line, and what follows from it for the saga's row; False if it was released."""
        instance, story = self.instance, self.instance.story
        before = story.status
        state = machine.evolve(instance.saga.plan, story.state, line.entry)
        turn = self._turn(line.entry, state)
        item = self._item(line.entry) if line.entry.next is Next.QUEUE else None
        row = instance.row
        closed = settled(story.state, state, line.entry.what, "the saga", "it turned round")
        write = Write(row.id, row.fence, story.seq + 1, line, turn, item, closed)
        if not await self._patiently(lambda: self._store.record(write)):
            _log.warning("saga %s is held by another worker now; leaving it", row.id)
            return False
        story.add(line, state)
        report_line(
            instance.saga.plan,
            line,
            saga_id=row.id,
            began=row.began,
            before=before,
            status=story.status,
            error=self._told(line),
        )
        return turn is None or not turn.release

    def _told(self, line: Line) -> str | None:
        """Return what an attempt failed with; a bug in a step is logged, first and at the end."""
        entry = line.entry
        if line.data is None or entry.side is None or entry.what not in FAILED:
            return None
        failure = self.instance.story.failures[entry.step, entry.side]
        if failure.trace is not None and (entry.attempt == 1 or entry.next is Next.QUEUE):
            _log.error(
                "saga %s: %s (%s) raised what is none of the outcomes:\n%s",
                self.instance.row.id,
                entry.step,
                entry.side,
                failure.trace,
            )
        return f"{failure.kind}: {failure.what}"

    def _turn(self, entry: Entry, state: State) -> Turn | None:
        plan = self.instance.saga.plan
        status = machine.status(plan, state)
        if status in ENDED:
            return Turn(status, release=True, ended=entry.at, frees=bool(plan.locks))
        if status == "queued":
            return Turn(status, release=True)
        # an attempt that was cut short is still to be noted
        noted = not self._cut or entry.what is What.INTERRUPTED
        todo = machine.runs(plan, state)
        settled = noted and not self._flying and todo
        if settled and machine.happening(plan, state, entry.at) is None:
            due = min(run.due for run in todo)
            if self._stopping or due > entry.at:
                return Turn(status, release=True, wake=max(due - entry.at, 0.0))
        return Turn(status) if status != self.instance.story.status else None

    def _item(self, entry: Entry) -> NewItem:
        """Return the work item for the half step of `entry`, with the runbook as it is now."""
        saga, side = self.instance.saga, entry.side or Side.DO
        asked = saga.asked(entry.step, side)
        name = asked.runbook.name if asked.runbook else ""
        return NewItem(asked.name, name, asked.instructions())

    async def _rest(self, waiting: list[Run], now: float) -> bool:
        """Release a saga that was claimed before it was due, or whose worker stops."""
        due = min((run.due for run in waiting), default=now)
        row, status = self.instance.row, self.instance.story.status
        units, wake = self._units, max(due - now, 0.0)
        await self._patiently(
            lambda: self._store.apart(units.release(row.id, row.fence, status, wake))
        )
        return False

    async def _patiently(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        """Repeat `operation` until the database answers; None if the worker is halted first."""
        wait = _FIRST_WAIT
        while True:
            try:
                done = await operation()
            except Exception as error:  # noqa: BLE001  told; what an attempt answered must not be lost
                if self._halted:
                    return None
                self._outage.began(error)
            else:
                self._outage.ended()
                return done
            await asyncio.sleep(wait)
            wait = min(wait * 2, _MOST_WAIT)
