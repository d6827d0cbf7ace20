"""Carrying out the work that the lanes hand out: handlers, in units, with inbox and store.

What a handler raises is the event's failure. A database that is locked or gone is not: then nothing
was done, and the work is postponed without counting an attempt. Before each commit the runner asks
whether the jobs are still this member's (`fence`); if not, everything is rolled back.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from switchgear.database.port import Database, DatabaseUnavailable, Transaction
from switchgear.events.brokers.port import Partition
from switchgear.events.calling import Caller, Failure, Note, describe
from switchgear.events.handling import HandlerTransaction, Undo, Unit, Unprotected, shares
from switchgear.events.inbox import Inbox
from switchgear.events.incoming import Incoming
from switchgear.events.keeper import Keeper
from switchgear.events.lane import Cause, Kind, Work
from switchgear.events.outbox import Outbox
from switchgear.events.pace import BUDGET, Pace
from switchgear.events.reaction import Reactions
from switchgear.events.store import Head, Store
from switchgear.model.outcome import Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening

__all__ = [
    "Elsewhere",
    "Empty",
    "Failed",
    "Handled",
    "HeldBack",
    "Job",
    "Postponed",
    "Result",
    "Runner",
]

Job = Work[Partition, Incoming]

_TURN: Final = 0.001
"""Seconds after which whatever else the loop has to do gets its turn."""
_DRAINED: Final = 50
"""Stored events that share a transaction at most."""


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


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another member works the store off."""

    job: Job


Result = Handled | Failed | Postponed | Empty | HeldBack | Elsewhere


class _Abandon(Exception):
    """Leave the unit without committing: a job is no longer ours."""


class Runner:
    """Carries out jobs of one consumer.

    `keeper` is what a member needs to work the store off, where partitions alone do not say whose
    work that is. Without `once` nothing is looked up in the inbox, nor written there.
    """

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        outbox: Outbox,
        reactions: Reactions,
        *,
        pace: Pace,
        fence: Callable[[Job], bool],
        keeper: Keeper | None = None,
        once: bool = True,
        wrap: Callable[[HandlerTransaction], Any] | None = None,
    ) -> None:
        self.store = Store(inbox)
        self._database = database
        self._inbox = inbox
        self._once = once
        self._outbox = outbox
        self._caller = Caller(inbox.consumer, reactions)
        self._pace = pace
        self._fence = fence
        self._keeper = keeper
        self._wrap = wrap
        self._slow: dict[str, int] = {}
        self._direct = False
        """Whether handlers take the driver's own connection."""
        self._shares = shares(database)

    async def run(self, jobs: Sequence[Job], *, lazy: bool) -> list[Result]:
        """Handle the events of RUN jobs, all in one transaction.

        A `lazy` transaction of one event begins with the handler's first statement.
        """
        if not self._caller.transactional:
            return await self._run_plain(jobs)
        events = [event.identity for job in jobs for _, event in job.entries]
        if len(events) == 1:
            return [await self._run_one(jobs[0], lazy=lazy)]
        results: list[Result] = []
        notes: list[Note] = []
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
        except Unprotected:
            return [await self._run_one(job, lazy=False) for job in jobs]
        except Exception:
            if len(results) < len(jobs):
                raise
            # the commit was refused, for one of them: find out which
            return [await self._run_one(job, lazy=False) for job in jobs]
        self._caller.tell(notes)
        return results

    async def move(self, jobs: Sequence[Job]) -> list[Result]:
        """Carry out STORE, STORE_ALONE and HOLD jobs, all in one transaction."""
        parked: list[tuple[Job, Sequence[Incoming]]] = []
        try:
            async with self._database.transaction() as tx:
                for job in jobs:
                    if job.kind is Kind.HOLD:
                        head = await self.store.hold(tx, job.partition, job.name, job.cause)
                        parked.append((job, [head] if head else []))
                        continue
                    events: Sequence[Incoming] = [event for _, event in job.entries]
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
                    parked.append((job, events))
                self._check(jobs)
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed(jobs, error)
        for job, told in parked:
            self._tell_parked(job, told)
        return [Handled(job, len(job.entries)) for job in jobs]

    async def drain(self, job: Job) -> Result:
        """Handle the first events of a queue of the store; only one if that one has failed."""
        many = _DRAINED if self._caller.transactional and self._shares and not job.attempts else 1
        try:
            async with self._database.reading() as reader:
                heads = await self.store.heads(reader, job.partition, job.name, many)
            if not heads:
                return Empty(job)
            ready = list(itertools.takewhile(lambda head: not head.held, heads))
            if not ready:
                return HeldBack(job)
            if self._keeper is not None and not await self._keeper.take():
                return Elsewhere(job)
            if self._caller.transactional:
                done, failure = await self._drain(job, ready)
            else:
                done, failure = await self._drain_plain(ready[0])
            if failure is None:
                return Handled(job, done)
            async with self._database.transaction() as tx:
                await self.store.failed(tx, ready[done], failure.error)
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed([job], error)[0]
        return Failed(job, done, failure.error, failure.poison)

    async def _run_one(self, job: Job, *, lazy: bool) -> Result:
        """Handle the first event of a job in a transaction of its own."""
        event = job.entries[0][1]
        notes: list[Note] = []
        failure: Failure | None = None
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
                        await unit.undo()
                    self._check([job])
        except Undo:
            pass
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed([job], error)[0]
        except Exception as error:
            if not ran:
                raise
            failure = Failure(describe(error))  # the commit was refused
        if failure is not None:
            return Failed(job, 0, *failure)
        self._caller.tell(notes)
        return Handled(job, 1)

    async def _run_plain(self, jobs: Sequence[Job]) -> list[Result]:
        """Handle events whose handlers take no transaction; then write the inbox rows, if any.

        A crash in between handles them again: this is at least once, and the handler's signature
        says so.
        """
        results: list[Result] = []
        notes: list[Note] = []
        done: list[str] = []
        try:
            events = [event.identity for job in jobs for _, event in job.entries]
            seen = await self._seen(events)
            began = turn = time.monotonic()
            for job in jobs:
                if time.monotonic() - turn > _TURN:  # no database may be waited for in between
                    await asyncio.sleep(0)
                    turn = time.monotonic()
                if results and time.monotonic() - began > 2 * BUDGET:
                    results.append(Handled(job, 0))
                elif job.revoked or not self._fence(job):
                    results.append(Postponed(job))
                else:
                    results.append(await self._attempt_plain(job, seen, done, notes))
            if self._once and done:
                async with self._database.transaction() as tx:
                    await self._inbox.claim(tx, done)
        except (DatabaseUnavailable, Unknown, _Abandon) as error:
            return _postponed(jobs, error)
        self._caller.tell(notes)
        return results

    async def _drain(self, job: Job, heads: Sequence[Head]) -> tuple[int, Failure | None]:
        """Handle stored events in order; return how many, and how the one after them failed."""
        notes: list[Note] = []
        failure: Failure | None = None
        done = 0
        ran = False
        try:
            async with self._unit([head.event.identity for head in heads]) as unit:
                tx = await unit.open()
                ran = True
                for head in heads:
                    failure = await self._one(head.event, unit, notes)
                    if failure is not None:
                        await unit.undo()
                        break
                    await self._remove(tx, head)
                    done += 1
                self._check([job])
        except Undo:
            return 0, failure
        except Unprotected:
            return await self._drain(job, heads[:1])
        except (DatabaseUnavailable, Unknown, _Abandon):
            raise
        except Exception as error:
            if not ran:
                raise
            if len(heads) > 1:
                return await self._drain(job, heads[:1])
            return 0, Failure(describe(error))  # the commit was refused
        self._caller.tell(notes)
        return done, failure

    async def _drain_plain(self, head: Head) -> tuple[int, Failure | None]:
        event = head.event
        notes: list[Note] = []
        if not await self._seen([event.identity]):
            failure = await self._caller.call(event, None, notes)
            if failure is not None:
                return 0, failure
        async with self._database.transaction() as tx:
            if self._once:
                await self._inbox.claim(tx, [event.identity])
            await self.store.remove(tx, head)
        self._caller.tell(notes)
        return 1, None

    async def _remove(self, tx: Transaction, head: Head) -> None:
        if not await self.store.remove(tx, head):
            raise Undo  # a person has discarded it while it ran: undo, and look again

    async def _entries(self, job: Job, unit: Unit, notes: list[Note]) -> Result:
        for index, (_, event) in enumerate(job.entries):
            failure = await self._one(event, unit, notes)
            if failure is not None:
                await unit.undo()
                return Failed(job, index, *failure)
        return Handled(job, len(job.entries))

    async def _attempt_plain(
        self, job: Job, seen: set[str], done: list[str], notes: list[Note]
    ) -> Result:
        try:
            return await self._entries_plain(job, seen, done, notes)
        except (DatabaseUnavailable, Unknown) as error:
            # its handler's own: what others have done is written down, and not done again
            return _postponed([job], error)[0]

    async def _entries_plain(
        self, job: Job, seen: set[str], done: list[str], notes: list[Note]
    ) -> Result:
        began, before = time.monotonic(), len(done)
        result: Result = Handled(job, len(job.entries))
        for index, (_, event) in enumerate(job.entries):
            if event.identity in seen:
                continue
            if job.revoked:  # the next owner has the rest
                result = Handled(job, index)
                break
            failure = await self._caller.call(event, None, notes)
            if failure is not None:
                result = Failed(job, index, *failure)
                break
            seen.add(event.identity)
            done.append(event.identity)
        called = len(done) - before + isinstance(result, Failed)
        self._pace.took(time.monotonic() - began, called)
        return result

    async def _one(self, event: Incoming, unit: Unit, notes: list[Note]) -> Failure | None:
        """Handle one event inside `unit`; what it did is to be undone if it failed."""
        identity = event.identity
        if unit.tx is not None and not unit.claims(identity):
            notes.append(Note(event, "duplicate", 0.0))
            return None
        scope = await unit.begin(identity)
        given = self._wrap(scope) if self._wrap is not None else scope
        began, waited = time.monotonic(), unit.waited
        failure = await self._caller.call(event, given, notes)
        self._pace.took(time.monotonic() - began - (unit.waited - waited))
        # a lazy unit learns only now whether another member was quicker
        if failure is None and (unit.claims(identity) or await unit.is_fresh(identity)):
            unit.keep(scope)
        self._direct = self._direct or unit.direct
        return failure

    async def _seen(self, events: Sequence[str]) -> set[str]:
        """Return those that were handled before, as far as that is kept."""
        return await self._inbox.look_up(self._database, events) if self._once else set()

    def _unit(self, events: Sequence[str]) -> Unit:
        return Unit(
            self._database, self._inbox, self._outbox, events, slow=self._slow, eager=self._direct
        )

    def _check(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.revoked or not self._fence(job):
                raise _Abandon

    def _tell_parked(self, job: Job, events: Sequence[Incoming]) -> None:
        if not listening():
            return
        for index, event in enumerate(events):
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
