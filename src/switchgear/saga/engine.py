"""Runs sagas: starts them inside a team's transaction, and drives those that are due.

An engine belongs to one service and its database. Any number of processes may run engines on one
database: a saga is held by one of them at a time, by a lease that the engine extends while it
lives. What a worker held when it was killed is taken up when the lease has run out, or at once
where the worker was a process of this machine.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from switchgear.database.joined import joined, joined_sync
from switchgear.database.port import Database, committed
from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaDefinitionError, SagaError
from switchgear.saga.attempt import Instance
from switchgear.saga.definition import Saga, Step
from switchgear.saga.driver import ENDED
from switchgear.saga.errors import (
    NotCommitted,
    SagaLocked,
)
from switchgear.saga.notify import Hook
from switchgear.saga.run import Done, Run, RunState, end_of
from switchgear.saga.runbook import refutation
from switchgear.saga.starting import by_definition, check_ready, check_same, new_saga
from switchgear.saga.stores import store_of
from switchgear.saga.stores.group import Group
from switchgear.saga.stores.port import NewSaga, SagaRow, Started, drive, drive_sync
from switchgear.saga.stores.units import COMPONENT, STEPS, Units
from switchgear.saga.story import Decision, Story, read_story
from switchgear.saga.worker import Worker

__all__ = ["Engine"]

_ASK_FIRST, _ASK_MOST = 0.01, 0.25
_ASK_OURS = 2.0
"""Seconds between two looks at a saga that is driven here, whose end is told anyway."""


class Engine:
    """Starts and drives the sagas of one service.

    `sagas` are the definitions that this process knows; list an old version beside the new one
    until its last saga has ended. `concurrency` is how many sagas are driven at once, `lease` how
    many seconds another worker waits for a worker that is gone, and `poll` how often, in seconds,
    it looks for work that another process left (default: 0.05 on SQLite, where looking is nearly
    free, 0.5 elsewhere). `archive` is a folder for sagas that have been kept long enough, one JSON
    object a line and saga; see `Saga(keep=...)`. `notify` is told of each work item that opens, at
    least once; see `switchgear.saga.notify.webhook`. `clock` gives epoch seconds for deadlines and
    waits; leases are by the database's clock.
    """

    def __init__(
        self,
        database: Database,
        sagas: Iterable[Saga] = (),
        *,
        concurrency: int = 64,
        lease: float = 10.0,
        poll: float | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        archive: str | Path | None = None,
        notify: Hook | None = None,
    ) -> None:
        self._database = database
        self._sagas = by_definition(sagas)
        self._clock = clock
        self._store = store_of(database)
        self._units = Units(database.dialect)
        self._beginning: Group[NewSaga, tuple[Started, bool]] = Group(self._begin_all)
        self._waiters: dict[str, list[asyncio.Future[Story]]] = {}
        self._prepared = False
        self._task: asyncio.Task[None] | None = None
        self._worker = Worker(
            database,
            self._store,
            self._units,
            self._sagas,
            concurrency=concurrency,
            lease=lease,
            poll=poll or (0.05 if isinstance(database, Sqlite) else 0.5),
            clock=clock,
            rng=rng or random.Random(),  # noqa: S311  it spreads retries
            ended=self._ended,
            archive=None if archive is None else Path(archive),
            notify=notify,
        )

    # --- starting ------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Create or update the tables. Do it at start-up, before the first `start`.

        Raises `SagaDefinitionError` if a definition was changed under the version of sagas that
        have not ended.
        """
        if self._prepared:
            return
        await self._database.migrate(COMPONENT, STEPS)
        strangers = await self._store.read(self._units.strangers(tuple(self._sagas)))
        for definition, count in strangers:
            _check_unchanged(definition, count, self._sagas.values())
        for definition, saga in self._sagas.items():
            plan = msgspec.json.encode(saga.plan)
            await self._store.write(self._units.keep_plan(definition, plan))
        await self._store.write(self._units.mend_locks())
        self._prepared = True

    async def start(self, tx: object, saga: Saga, input: object, *, id: str) -> Run:  # noqa: A002
        """Start `saga` inside the transaction `tx`: it runs if and only if `tx` commits.

        `tx` is a `Transaction`, or what `switchgear.database.joined` takes (an asyncpg connection,
        an AsyncSession). `id` says what the saga is about, such as the order's id; it is unique in
        the database. Starting the same saga with the same id and input again gives the same run.

        Raises `SagaConflict` if the id is that of another saga or input, `SagaLocked` if another
        saga holds a lock that it does not wait for, and `SagaError` if the saga is not one of this
        engine's or the input is not of its type.
        """
        new = self._new(saga, input, id)
        transaction = joined(tx)
        # the team's own connection cannot tell when it has been committed: leave it to polling
        hooked = transaction is tx
        owner = self._worker.owner if hooked and self._worker.has_room() else None
        unit = self._units.start(new, owner, self._worker.lease)
        started = await drive(transaction.run, unit)
        self._check_started(saga, new, started)
        if hooked and started == Started():
            transaction.after_commit(lambda: self._begun(saga, new, held=owner is not None))
        return Run(self, id)

    async def begin(self, saga: Saga, input: object, *, id: str) -> Run:  # noqa: A002
        """Start `saga` by itself, and return once it is durable; sagas begun together share that.

        It is for a saga that nothing else has to be committed with. Where a row of yours tells the
        same story, an order's say, use `start` in the row's transaction: a crash between the two
        leaves one without the other. Errors as in `start`.
        """
        new = self._new(saga, input, id)
        started, held = await self._beginning.put(new)
        committed()
        self._check_started(saga, new, started)
        if started == Started():
            self._begun(saga, new, held=held)
        return Run(self, id)

    async def _begin_all(self, sagas: list[NewSaga]) -> list[tuple[Started, bool]]:
        owner = self._worker.owner if self._worker.has_room() else None
        lease = self._worker.lease
        free = [saga for saga in sagas if not saga.wishes]
        found = await self._store.apart(self._units.start_all(free, owner, lease)) if free else []
        started = dict(zip(map(id, free), found, strict=True))
        for saga in sagas:
            if saga.wishes:
                # alone, since several that take locks together could wait for each other in a ring
                unit = self._units.start(saga, owner, lease)
                started[id(saga)] = await self._store.write(unit)
        return [(started[id(saga)], owner is not None) for saga in sagas]

    def start_sync(self, connection: object, saga: Saga, input: object, *, id: str) -> Run:  # noqa: A002
        """Do what `start` does on a connection that does not await.

        `connection` is a sqlite3 connection, or an SQLAlchemy Session or Connection, with an open
        transaction. It may be called from any thread.
        """
        new = self._new(saga, input, id)
        transaction = joined_sync(connection)
        if transaction is None:
            raise SagaError(
                f"{type(connection).__qualname__} is not a connection that does not await.",
                fix="Give start_sync a sqlite3 connection or an SQLAlchemy Session, or use start.",
            )
        unit = self._units.start(new, None, 0.0)
        started = drive_sync(lambda sql, args: transaction.run(sql, *args), unit)
        self._check_started(saga, new, started)
        return Run(self, id)

    async def refute(
        self,
        tx: object,
        id: str,  # noqa: A002  it is called that everywhere
        step: Step[..., Any] | str,
        *,
        actor: str,
        evidence: str,
    ) -> str:
        """Say inside the transaction `tx` that a step, recorded as done, does not hold after all.

        It is for the handler of an event such as PaymentBounced; `actor` and `evidence` are kept.
        Returns the saga's status once `tx` has been committed. See `switchgear.saga.runbook.refute`
        for what follows and for errors; it does not wait: it raises `Held` while a worker attempts
        something for the saga, and the event is to be handled again. It raises `SagaError` where
        this engine would have to undo something and does not have the saga's definition: keep an
        old version for as long as its steps may be refuted.
        """
        name = step if isinstance(step, str) else step.name
        transaction = joined(tx)
        told, now = Decision(actor, evidence), self._clock()
        unit = refutation(self._units, id, name, told, now, known=self._sagas.keys())
        status = await drive(transaction.run, unit)
        if transaction is tx:
            transaction.after_commit(self._worker.wake)
        return status

    def wake(self) -> None:
        """Look for work now: after the commit of a transaction that `start_sync` was part of."""
        self._worker.wake()

    def get(self, id: str) -> Run:  # noqa: A002  it is called that everywhere
        """Return the run of the saga `id`, which may have been started anywhere."""
        return Run(self, id)

    def _new(self, saga: Saga, given: object, saga_id: str) -> NewSaga:
        check_ready(saga, self._sagas, prepared=self._prepared, engine="Engine")
        return new_saga(saga, given, saga_id, self._clock())

    def _check_started(self, saga: Saga, new: NewSaga, started: Started) -> None:
        if started.refused is not None:
            name, holder = started.refused
            raise SagaLocked(
                f"saga {holder} holds the lock {name} and has not ended.",
                where=f"start of saga {saga.name} {new.id}",
                fix=f"Start it when {holder} has ended, or let it wait: "
                f'{saga.name}.lock(..., held="wait").',
            )
        if started.existing is not None:
            existing = started.existing
            check_same(
                saga,
                new.id,
                new.input,
                name=existing.definition.split("/", 1)[0],
                existing=existing.input,
                ids="a database",
            )

    def _begun(self, saga: Saga, new: NewSaga, *, held: bool) -> None:
        """Drive a saga that was just committed if it is ours already; else look for it."""
        if not held:
            self._worker.wake()
            return
        row = SagaRow(
            id=new.id,
            definition=new.definition,
            input=new.input,
            context=new.context,
            status="running",
            began=new.began,
            deadline=new.deadline,
            ended=None,
            fence=1,
        )
        self._worker.take(Instance.of(saga, row, []))

    # --- asking --------------------------------------------------------------------------------

    async def outcome(self, saga_id: str, within: float) -> Done:
        """Wait for the end of a saga; see `Run.result`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        waiter: asyncio.Future[Story] = loop.create_future()
        waiters = self._waiters.setdefault(saga_id, [])
        waiters.append(waiter)
        pause = _ASK_FIRST
        try:
            while True:
                left = max(end - loop.time(), 0.0)
                here = saga_id in self._worker
                await asyncio.wait([waiter], timeout=min(_ASK_OURS if here else pause, left))
                if waiter.done():
                    story = waiter.result()
                    return end_of(saga_id, story, story.status)
                row = await self._row(saga_id)
                if row.status in {*ENDED, "queued"} or loop.time() >= end:
                    return end_of(saga_id, await self._story(row), row.status)
                pause = min(pause * 2, _ASK_MOST)
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._waiters.pop(saga_id, None)

    async def state(self, saga_id: str) -> RunState:
        """Return where a saga stands; see `Run.state`."""
        row = await self._row(saga_id)
        story = await self._story(row)
        return RunState(
            id=row.id,
            saga=story.plan.saga,
            version=story.plan.version,
            status=row.status if row.status == "waiting" else story.status,
            steps={name: mark.fate for name, mark in story.state.marks.items()},
            began=row.began,
            deadline=row.deadline,
            ended=row.ended,
        )

    async def _row(self, saga_id: str) -> SagaRow:
        row = await self._store.read(self._units.find(saga_id))
        if row is None:
            raise NotCommitted(
                f"no saga {saga_id} has been committed.",
                fix="Ask after the transaction that starts it has ended: outside its `async with`.",
            )
        return row

    async def _story(self, row: SagaRow) -> Story:
        known = self._sagas.get(row.definition)
        return await read_story(self._store, self._units, row, known.plan if known else None)

    def _ended(self, saga_id: str, story: Story) -> None:
        for waiter in self._waiters.get(saga_id, ()):
            if not waiter.done():
                waiter.set_result(story)

    # --- working -------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether sagas are taken up here: between the beginning of `run` and that of `stop`."""
        return self._worker.running

    async def run(self) -> None:
        """Drive sagas until `stop`. If it is cancelled, running attempts are cut short.

        Raises `SagaError` if it runs already, and `DatabaseError` if the tables cannot be used.
        """
        await self.prepare()
        await self._worker.run()

    async def stop(self, within: float | timedelta = 10.0) -> None:
        """Begin no further attempt, and wait for the running ones at most `within` seconds.

        What has not ended by then is cut short and counts as interrupted. The leases are released,
        so that another worker goes on at once.
        """
        seconds = within.total_seconds() if isinstance(within, timedelta) else within
        await self._worker.stop(seconds)

    async def __aenter__(self) -> Self:
        """Prepare the tables and work in the background during the body of the `async with`."""
        await self.prepare()
        self._task = asyncio.create_task(self._worker.run(), name="saga engine")
        await asyncio.sleep(0)  # it has begun: what starts now is driven at once
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if self._task is not None:
            await self._task


def _check_unchanged(definition: str, count: int, sagas: Iterable[Saga]) -> None:
    """Refuse a definition that differs from that of the same version in the database."""
    for saga in sagas:
        if definition.startswith(f"{saga.name}/{saga.version}/"):
            raise SagaDefinitionError(
                f"the definition was changed, and {count} saga(s) of version {saga.version} that "
                "began under the former one have not ended.",
                where=f"saga {saga.name}",
                fix=f"Make it version {saga.version + 1}, and keep the former definition beside "
                "it until they have ended.",
            )
