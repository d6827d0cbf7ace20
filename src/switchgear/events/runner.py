"""Carrying out the work that the lanes hand out: handlers, in units, with inbox and store.

What a handler raises is the event's failure. A database that is locked or gone is not: then nothing
was done, and the work is postponed without counting an attempt. Before each commit the runner asks
whether the partitions are still this member's (`fence`); if not, everything is rolled back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from switchgear.contract.message import Message
from switchgear.database.port import Database, DatabaseUnavailable
from switchgear.errors import InvalidMessage
from switchgear.events.brokers.port import Partition
from switchgear.events.envelope import Envelope
from switchgear.events.handling import Duplicate, HandlerTransaction, Unit
from switchgear.events.inbox import Inbox
from switchgear.events.incoming import Incoming
from switchgear.events.lane import Cause, Kind, Work
from switchgear.events.outbox import Outbox
from switchgear.events.pace import BUDGET, Pace
from switchgear.events.reaction import Reaction, Reactions
from switchgear.events.store import Head, Store
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening

__all__ = ["Empty", "Failed", "Handled", "HeldBack", "Job", "Postponed", "Result", "Runner"]

Job = Work[Partition, Incoming]

_LONGEST: Final = 2_000
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class Handled:
    """The first `events` of the job are committed."""

    job: Job
    events: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The first `events` of the job are committed, and the next one failed."""

    job: Job
    events: int
    error: str
    poison: bool = False


@dataclass(frozen=True, slots=True)
class Postponed:
    """Nothing was committed, and not because of the event. `why` is empty for a lost lease."""

    job: Job
    why: str = ""


@dataclass(frozen=True, slots=True)
class Empty:
    """The store's queue is empty."""

    job: Job


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The store's queue waits for a person."""

    job: Job


Result = Handled | Failed | Postponed | Empty | HeldBack


class _Failure(NamedTuple):
    error: str
    poison: bool = False


class _Readable(NamedTuple):
    reaction: Reaction
    envelope: Envelope
    message: Message


class _Note(NamedTuple):
    """What is to be told once it is committed."""

    event: Incoming
    outcome: str
    seconds: float


class _Undo(Exception):
    """Leave the unit without committing; the result is already known."""


class _Abandon(Exception):
    """Leave the unit without committing: a partition is no longer ours."""


class Runner:
    """Carries out jobs of one consumer."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        outbox: Outbox,
        reactions: Reactions,
        *,
        pace: Pace,
        fence: Callable[[Partition], bool],
        wrap: Callable[[HandlerTransaction], Any] | None = None,
    ) -> None:
        self.store = Store(inbox)
        self._database = database
        self._inbox = inbox
        self._outbox = outbox
        self._reactions = reactions
        self._pace = pace
        self._fence = fence
        self._wrap = wrap
        self._slow: dict[str, int] = {}
        self.transactional = any(reaction.transactional for reaction in reactions.values())

    async def run(self, jobs: Sequence[Job], *, lazy: bool) -> list[Result]:
        """Handle the events of RUN jobs, all in one transaction.

        A `lazy` transaction of one event begins with the handler's first statement.
        """
        if not self.transactional:
            return await self._run_plain(jobs)
        events = [event.identity for job in jobs for _, event in job.entries]
        if len(events) == 1:
            return [await self._run_one(jobs[0], lazy=lazy)]
        results: list[Result] = []
        notes: list[_Note] = []
        try:
            async with self._unit(events) as unit:
                await unit.open()
                began = time.monotonic()
                for job in jobs:
                    if results and time.monotonic() - began > 2 * BUDGET:
                        results.append(Handled(job, 0))  # slower than expected: next time
                    else:
                        results.append(await self._entries(job, unit, notes))
                self._check(jobs)
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed(jobs, error)
        except Exception:
            if len(results) < len(jobs):
                raise
            # the commit was refused, for one of them: find out which
            return [await self._run_one(job, lazy=False) for job in jobs]
        self._tell_handled(notes)
        return results

    async def move(self, jobs: Sequence[Job]) -> list[Result]:
        """Carry out STORE, STORE_ALONE and HOLD jobs, all in one transaction."""
        try:
            async with self._database.transaction() as tx:
                for job in jobs:
                    if job.kind is Kind.HOLD:
                        await self.store.hold(tx, job.partition, job.name, job.cause)
                        continue
                    events = [event for _, event in job.entries]
                    alone = job.kind is Kind.STORE_ALONE
                    await self.store.append(
                        tx,
                        events[0].own_lane if alone else job.name,
                        events,
                        cause=job.cause,
                        hold=job.hold,
                        attempts=job.attempts,
                        error=job.error,
                    )
                self._check(jobs)
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed(jobs, error)
        for job in jobs:
            self._tell_parked(job)
        return [Handled(job, len(job.entries)) for job in jobs]

    async def drain(self, job: Job) -> Result:
        """Handle the first event of a queue of the store."""
        try:
            async with self._database.transaction() as tx:
                head = await self.store.head(tx, job.partition, job.name)
            if head is None:
                return Empty(job)
            if head.held:
                return HeldBack(job)
            failure = await self._drain(job, head)
            if failure is None:
                return Handled(job, 0)
            async with self._database.transaction() as tx:
                await self.store.failed(tx, head, failure.error)
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed([job], error)[0]
        return Failed(job, 0, failure.error, failure.poison)

    async def _run_one(self, job: Job, *, lazy: bool) -> Result:
        """Handle the first event of a job in a transaction of its own."""
        event = job.entries[0][1]
        notes: list[_Note] = []
        failure: _Failure | None = None
        ran = False
        try:
            known = lazy and await self._inbox.look_up(self._database, [event.identity])
            if not known:
                async with self._unit([event.identity]) as unit:
                    if not lazy:
                        await unit.open()
                    ran = True
                    failure = await self._one(event, unit, notes)
                    if failure is not None:
                        raise _Undo  # noqa: TRY301  the way out of the transaction
                    self._check([job])
        except _Undo:
            pass
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed([job], error)[0]
        except Exception as error:
            if not ran:
                raise
            failure = _Failure(_describe(error))  # the commit was refused
        if failure is not None:
            return Failed(job, 0, *failure)
        self._tell_handled(notes)
        return Handled(job, 1)

    async def _run_plain(self, jobs: Sequence[Job]) -> list[Result]:
        """Handle events whose handlers take no transaction; then write the inbox rows.

        A crash in between handles them again: this is at least once, and the handler's signature
        says so.
        """
        results: list[Result] = []
        notes: list[_Note] = []
        done: list[str] = []
        try:
            events = [event.identity for job in jobs for _, event in job.entries]
            seen = await self._inbox.look_up(self._database, events)
            began = time.monotonic()
            for job in jobs:
                if results and time.monotonic() - began > 2 * BUDGET:
                    results.append(Handled(job, 0))
                elif job.revoked or not self._fence(job.partition):
                    results.append(Postponed(job))
                else:
                    results.append(await self._entries_plain(job, seen, done, notes))
            async with self._database.transaction() as tx:
                await self._inbox.claim(tx, done)
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed(jobs, error)
        self._tell_handled(notes)
        return results

    async def _drain(self, job: Job, head: Head) -> _Failure | None:
        event = head.event
        notes: list[_Note] = []
        failure: _Failure | None = None
        if not self.transactional:
            seen = await self._inbox.look_up(self._database, [event.identity])
            if not seen:
                failure = await self._call(event, None, notes)
            if failure is not None:
                return failure
        try:
            async with self._unit([event.identity]) as unit:
                await unit.open()
                if self.transactional:
                    failure = await self._one(event, unit, notes)
                else:
                    unit.handled(event.identity)
                if failure is not None:
                    raise _Undo  # noqa: TRY301  the way out of the transaction
                if not await self.store.remove(await unit.open(), head):
                    raise _Undo  # noqa: TRY301  discarded while it ran: what it did is undone
                self._check([job])
        except _Undo:
            return failure
        self._tell_handled(notes)
        return None

    async def _entries(self, job: Job, unit: Unit, notes: list[_Note]) -> Result:
        for index, (_, event) in enumerate(job.entries):
            failure = await self._one(event, unit, notes)
            if failure is not None:
                await unit.undo()
                return Failed(job, index, *failure)
        return Handled(job, len(job.entries))

    async def _entries_plain(
        self, job: Job, seen: set[str], done: list[str], notes: list[_Note]
    ) -> Result:
        for index, (_, event) in enumerate(job.entries):
            if event.identity in seen:
                continue
            began = time.monotonic()
            failure = await self._call(event, None, notes)
            self._pace.took(time.monotonic() - began)
            if failure is not None:
                return Failed(job, index, *failure)
            seen.add(event.identity)
            done.append(event.identity)
        return Handled(job, len(job.entries))

    async def _one(self, event: Incoming, unit: Unit, notes: list[_Note]) -> _Failure | None:
        """Handle one event inside `unit`; what it did is to be undone if it failed."""
        if unit.tx is not None and not await unit.is_fresh(event.identity):
            notes.append(_Note(event, "duplicate", 0.0))
            return None
        scope = unit.scope(event.identity)
        await unit.begin()
        given = self._wrap(scope) if self._wrap is not None else scope
        began, waited = time.monotonic(), unit.waited
        failure = await self._call(event, given, notes)
        self._pace.took(time.monotonic() - began - (unit.waited - waited))
        # a lazy unit learns only now whether another member was quicker
        if failure is None and await unit.is_fresh(event.identity):
            await unit.keep(scope)
        return failure

    async def _call(self, event: Incoming, tx: Any, notes: list[_Note]) -> _Failure | None:
        """Decode the event and call its handler, with the context that goes with it."""
        began = time.monotonic()
        read = self._read(event)
        if isinstance(read, _Failure):
            return read
        left = None if read.envelope.deadline is None else read.envelope.deadline - time.time()
        if left is not None and left <= 0:
            notes.append(_Note(event, "expired", 0.0))
            return None
        context = self._context(event, read.envelope, None if left is None else began + left)
        outcome = "done"
        try:
            with bind(context):
                await read.reaction(read.message, tx)
        except Duplicate:
            outcome = "duplicate"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return _Failure("the handler was cancelled from within.")
        except Exception as error:
            if isinstance(error, DatabaseUnavailable) and error.retry_after is not None:
                raise
            return _Failure(_describe(error))
        notes.append(_Note(event, outcome, time.monotonic() - began))
        return None

    def _read(self, event: Incoming) -> _Readable | _Failure:
        reaction = self._reactions.get(event.type)
        if reaction is None:
            return _Failure("this is not a CloudEvent: ce-type is missing.", poison=True)
        try:
            envelope = reaction.envelope(event)
            return _Readable(reaction, envelope, reaction.message(envelope))
        except InvalidMessage as error:
            at = f" at {error.pointer}" if error.pointer else ""
            return _Failure(f"{error.what}{at}", poison=True)

    def _context(self, event: Incoming, envelope: Envelope, deadline: float | None) -> Context:
        return Context(
            deadline=deadline,
            key=f"{self._inbox.consumer}/{event.identity}",
            traceparent=envelope.traceparent,
            tracestate=envelope.tracestate,
            caller=envelope.source,
            correlation=envelope.correlation or envelope.id,
            causation=envelope.id,
        )

    def _unit(self, events: Sequence[str]) -> Unit:
        return Unit(self._database, self._inbox, self._outbox, events, slow=self._slow)

    def _check(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.revoked or not self._fence(job.partition):
                raise _Abandon

    def _tell_handled(self, notes: Sequence[_Note]) -> None:
        if not listening():
            return
        for note in notes:
            event = note.event
            emit(
                Signal(
                    SignalKind.EVENT_HANDLED,
                    self._inbox.consumer,
                    {
                        "event": event.identity,
                        "type": event.type,
                        "key": event.key,
                        "outcome": note.outcome,
                        "seconds": note.seconds,
                    },
                )
            )

    def _tell_parked(self, job: Job) -> None:
        if not listening():
            return
        for index, (_, event) in enumerate(job.entries):
            emit(
                Signal(
                    SignalKind.EVENT_PARKED,
                    self._inbox.consumer,
                    {
                        "event": event.identity,
                        "type": event.type,
                        "key": event.key,
                        "cause": (Cause.BEHIND if index else job.cause).value,
                        "held": job.hold,
                        "error": "" if index else job.error,
                    },
                )
            )


def _postponed(jobs: Sequence[Job], error: Exception) -> list[Result]:
    why = "" if isinstance(error, _Abandon) else str(error)
    return [Postponed(job, why) for job in jobs]


def _describe(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"[:_LONGEST]
