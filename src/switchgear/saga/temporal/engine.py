"""Runs the sagas of one service on a Temporal cluster, with the same definitions.

    place = Place.of("temporal://127.0.0.1:7233/default")
    async with TemporalEngine(database, place, sagas=[checkout], service="orders") as engine:
        async with database.transaction() as tx:
            run = await engine.start(tx, checkout, order, id=order.order_id)

It is used like `Engine`. The database is the service's own: a saga's start commits in it, and is
handed on to Temporal afterwards. What holds otherwise there is on the page "Sagas on Temporal".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from contextvars import copy_context
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import msgspec
from temporalio.client import WorkflowFailureError
from temporalio.converter import PayloadCodec

from switchgear.database.joined import joined, joined_sync
from switchgear.database.port import Database, committed
from switchgear.errors import SagaError
from switchgear.model.outcome import Reason, Unavailable
from switchgear.saga.acting import check_decision
from switchgear.saga.definition import Saga, Step
from switchgear.saga.errors import (
    NotCommitted,
    SagaConflict,
    SagaUnfinished,
    TemporalRefused,
)
from switchgear.saga.notify import Hook
from switchgear.saga.outage import Outage
from switchgear.saga.run import Done, Run, RunState, end_of
from switchgear.saga.starting import by_definition, check_ready, new_saga
from switchgear.saga.state import What
from switchgear.saga.stores import store_of
from switchgear.saga.stores.port import drive, drive_sync
from switchgear.saga.stores.units import Units
from switchgear.saga.story import Decision
from switchgear.saga.temporal import starts
from switchgear.saga.temporal.cluster import Cluster, Seen, check_service, unknown
from switchgear.saga.temporal.place import Place, connect
from switchgear.saga.temporal.relay import Relay, compare, until
from switchgear.saga.temporal.starts import Start
from switchgear.saga.temporal.wire import MOST, Begin, Refutation
from switchgear.saga.temporal.workers import Workers

__all__ = ["TemporalEngine"]

_log = logging.getLogger("switchgear.saga")
_ASK_FIRST, _ASK_MOST = 0.02, 1.0
_ASK_LATER = 0.25
"""Seconds until the next look whether a saga waits for a person; that it has ended is told."""
_AGAIN: Final = 5.0
_CHECK: Final = 1.0


class TemporalEngine:
    """Starts and drives the sagas of the service `service` on Temporal.

    `sagas` are the definitions that this process knows; list an old version beside the new one
    until its last saga has ended. `concurrency` is how many attempts of one definition run at once,
    and `lease` for how many seconds a worker may fall silent before it is given up. `notify` is
    told of each work item that opens, at least once. `codec` encrypts what Temporal stores.
    `events` is how long a history grows before the saga goes on in a new one.

    Raises `TemporalRefused` for a saga that cannot run there: one with locks.
    """

    def __init__(
        self,
        database: Database,
        place: Place,
        sagas: Iterable[Saga] = (),
        *,
        service: str,
        concurrency: int = 64,
        lease: float = 10.0,
        notify: Hook | None = None,
        codec: PayloadCodec | None = None,
        events: int = 4_000,
    ) -> None:
        check_service(service)
        self.place = place
        self.service = service
        self._database = database
        self._store = store_of(database)
        self._sagas = by_definition(sagas)
        self._lease = lease
        self._codec = codec
        self._events = events
        self._cluster: Cluster | None = None
        self._outage = Outage()
        self._concurrency = concurrency
        self._notify = notify
        self._relay, self._workers = self._parts()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._prepared = False
        self._running = False
        self._task: asyncio.Task[None] | None = None
        for saga in self._sagas.values():
            _check(saga)

    # --- starting ------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Create or update the table of starts, and reach Temporal if it is there.

        Where it is only away, this returns: starts wait. Raises `TemporalRefused` where the
        namespace, the credentials or the place are wrong.
        """
        if self._prepared:
            return
        await self._database.migrate(starts.COMPONENT, starts.STEPS)
        self._prepared = True
        units = Units(self._database.dialect)
        left = await self._store.read(units.unended())
        if left:
            _log.warning(
                "%d saga(s) that began in the database of %s have not ended, and stand still while "
                "its sagas run on Temporal: run a worker without that setting until they have.",
                left,
                self.service,
            )
        try:
            await self._connect()
        except Unavailable as error:
            self._outage.began(error)

    async def start(self, tx: object, saga: Saga, input: object, *, id: str) -> Run:  # noqa: A002
        """Start `saga` inside the transaction `tx`: it runs if and only if `tx` commits.

        Arguments and errors are those of `Engine.start`. Where Temporal is away, that another saga
        has the id there is found only after the commit: `run.result` then says so.
        """
        start = self._new(saga, input, id)
        await self._check_existing(saga, start)
        transaction = joined(tx)
        other = await drive(transaction.run, starts.insert(start, time.time()))
        self._check_same(saga, start, other)
        if transaction is tx:
            transaction.after_commit(self.wake)
        return Run(_Started(self, saga, start), id)

    async def begin(self, saga: Saga, input: object, *, id: str) -> Run:  # noqa: A002
        """Start `saga` by itself, and return once it is durable. Errors as in `start`."""
        start = self._new(saga, input, id)
        await self._check_existing(saga, start)
        other = await self._store.write(starts.insert(start, time.time()))
        committed()
        self._check_same(saga, start, other)
        self.wake()
        return Run(_Started(self, saga, start), id)

    def start_sync(self, connection: object, saga: Saga, input: object, *, id: str) -> Run:  # noqa: A002
        """Do what `start` does on a connection that does not await; see `Engine.start_sync`."""
        start = self._new(saga, input, id)
        transaction = joined_sync(connection)
        if transaction is None:
            raise SagaError(
                f"{type(connection).__qualname__} is not a connection that does not await.",
                fix="Give start_sync a sqlite3 connection or an SQLAlchemy Session, or use start.",
            )
        unit = starts.insert(start, time.time())
        other = drive_sync(lambda sql, args: transaction.run(sql, *args), unit)
        self._check_same(saga, start, other)
        return Run(_Started(self, saga, start), id)

    async def refute(
        self,
        tx: object,  # noqa: ARG002  as every engine takes it
        id: str,  # noqa: A002  it is called that everywhere
        step: Step[..., object] | str,
        *,
        actor: str,
        evidence: str,
    ) -> str:
        """Say that a step, recorded as done, does not hold after all.

        It holds at once, not with `tx`: it is safe to repeat, so a handler that fails afterwards
        refutes again. Errors are those of `switchgear.saga.runbook.refute`.
        """
        name = step if isinstance(step, str) else step.name
        given = Refutation(name, Decision(actor, evidence))
        check_decision(What.REFUTE, given.decision)
        cluster = self._reached()
        seen = await cluster.see(id)
        if seen is None:
            raise unknown(id)
        own = {f"{self.service}/{definition}" for definition in self._sagas}
        if self._running and seen.queue in own:
            return await cluster.refute(seen, given)
        async with cluster.interpreted(seen.queue):  # perhaps nobody else does
            return await cluster.refute(seen, given)

    def wake(self) -> None:
        """Hand on starts now: after the commit of a transaction that `start_sync` was part of."""
        self._relay.wake()

    def get(self, id: str) -> Run:  # noqa: A002  it is called that everywhere
        """Return the run of the saga `id`, which may have been started anywhere."""
        return Run(self, id)

    def _new(self, saga: Saga, given: object, saga_id: str) -> Start:
        check_ready(saga, self._sagas, prepared=self._prepared, engine="TemporalEngine")
        new = new_saga(saga, given, saga_id, 0.0)
        if len(new.input) > MOST:
            raise SagaError(
                f"its input is {len(new.input)} bytes, and on Temporal it is at most {MOST}.",
                where=f"start of saga {saga.name}",
                fix="Give it a reference to what is large.",
            )
        begin = Begin(
            id=saga_id,
            plan=saga.plan,
            input=msgspec.Raw(new.input),
            context=msgspec.Raw(new.context),
            deadline=None if saga.deadline is None else saga.deadline.total_seconds(),
            lease=self._lease,
            events=self._events,
        )
        queue = f"{self.service}/{saga.plan.id}"
        return Start(saga_id, queue, msgspec.json.encode(begin))

    async def _check_existing(self, saga: Saga, start: Start) -> None:
        """Refuse an id that Temporal knows as that of something else, if it can be asked."""
        if self._cluster is None:
            return
        try:
            # in no time: a transaction is open meanwhile
            begun = await self._cluster.begun(start.id, within=_CHECK)
        except Unavailable:
            return
        if begun is not None:
            compare(saga, start, begun)

    def _check_same(self, saga: Saga, start: Start, other: Start | None) -> None:
        if other is not None:
            compare(saga, start, msgspec.json.decode(other.given, type=Begin))

    # --- asking --------------------------------------------------------------------------------

    async def outcome(
        self, saga_id: str, within: float, started: tuple[Saga, Start] | None = None
    ) -> Done:
        """Wait for the end of a saga; see `Run.result`.

        Raises `SagaConflict` if its workflow is not that of `started`, which was committed here.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        pause = _ASK_FIRST
        ending: asyncio.Task[object] | None = None
        try:
            while True:
                seen = await self._seen(saga_id)
                if seen is not None and started is not None:
                    await self._check_started(*started)
                    started = None
                status = "running" if seen is None else seen.status
                if seen is not None and seen.closed:
                    return await self._end(seen)
                if status == "queued" or loop.time() >= end:
                    raise _unfinished(saga_id, status)
                if seen is not None and ending is None:
                    ending = asyncio.create_task(self._reached().ended(saga_id))
                    pause = _ASK_LATER
                left = min(pause, max(end - loop.time(), 0.0))
                if ending is None or ending.done():
                    await asyncio.sleep(left)
                else:
                    await asyncio.wait([ending], timeout=left)
                pause = min(pause * 2, _ASK_MOST)
        finally:
            if ending is not None:
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)

    async def state(self, saga_id: str, started: tuple[Saga, Start] | None = None) -> RunState:
        """Return where a saga stands; see `Run.state`. A worker of its definition has to be there.

        Raises `NotCommitted`, and `SagaUnfinished` while Temporal has not heard of it yet; and
        `SagaConflict` as `outcome` does.
        """
        seen = await self._seen(saga_id)
        if seen is None:
            raise _unfinished(saga_id, "running")
        if started is not None:
            await self._check_started(*started)
        record = await self._reached().record(seen)
        return RunState(
            id=saga_id,
            saga=record.plan.saga,
            version=record.plan.version,
            status=record.status,
            steps={name: mark.fate for name, mark in record.snapshot.state.marks.items()},
            began=record.began,
            deadline=record.snapshot.state.deadline,
            ended=record.ended,
        )

    async def _check_started(self, saga: Saga, start: Start) -> None:
        begun = await self._reached().begun(start.id)
        if begun is not None:
            compare(saga, start, begun)

    async def _seen(self, saga_id: str) -> Seen | None:
        """Return what Temporal tells of a saga; None: it has only been committed here."""
        for _ in range(2):  # it may be handed on between the two questions
            seen = await self._cluster.see(saga_id) if self._cluster is not None else None
            if seen is not None:
                return seen
            start = await self._store.read(starts.find(saga_id))
            if start is not None and start.refused is not None:
                raise SagaConflict(start.refused, where=f"start of saga {saga_id}")
            if start is not None:
                return None
        self._reached()
        raise NotCommitted(
            f"no saga {saga_id} has been committed.",
            fix="Ask after the transaction that starts it has ended: outside its `async with`.",
        )

    async def _end(self, seen: Seen) -> Done:
        try:
            record = await self._reached().ended(seen.id)
        except WorkflowFailureError:
            raise SagaUnfinished(
                seen.id,
                status=seen.status,
                what=f"the workflow of saga {seen.id} was {seen.status} on Temporal: what was done "
                f"by then stays. See `switchgear saga show {seen.id}`.",
            ) from None
        return end_of(seen.id, record.story(), record.status)

    # --- working -------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether sagas are taken up here: between the beginning of `run` and that of `stop`."""
        return self._running

    async def run(self) -> None:
        """Drive sagas until `stop`, and hand on starts. Where Temporal is away, it waits."""
        await self.prepare()
        if self._running:
            raise SagaError("the engine runs already.", fix="Run it once in each process.")
        self._running = True
        self._stopping.clear()
        self._stopped.clear()
        self._relay, self._workers = self._parts()
        refused = ""
        try:
            while self._running:
                try:
                    await self._connect()
                    refused = ""
                    if not self._stopping.is_set():
                        await self._work()
                except Unavailable as error:
                    self._outage.began(error)
                except TemporalRefused as error:
                    if refused != str(error):  # it is asked again in moments, and says the same
                        _log.error("sagas cannot run on Temporal, and wait: %s", error)
                    refused = str(error)
                except Exception:  # noqa: BLE001  whatever ended the workers, the sagas are to go on
                    _log.exception("the workers on Temporal failed; they begin again")
                await until(self._stopping, _AGAIN)
        finally:
            self._running = False
            self._stopped.set()

    async def stop(self, within: float | timedelta = 10.0) -> None:
        """Begin no further attempt, and wait for the running ones at most `within` seconds.

        What has not ended by then is cut short and counts as interrupted.
        """
        seconds = within.total_seconds() if isinstance(within, timedelta) else within
        if not self._running:
            return
        self._running = False
        self._stopping.set()
        self._relay.stop()
        if await self._workers.stop(seconds) or self._task is None:
            await self._stopped.wait()
        else:
            self._task.cancel()

    async def __aenter__(self) -> Self:
        """Prepare the table and work in the background during the body of the `async with`."""
        await self.prepare()
        self._task = asyncio.create_task(self.run(), name="saga engine", context=copy_context())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _parts(self) -> tuple[Relay, Workers]:
        """Return what works in the background from one `run` to its `stop`."""
        workers = Workers(
            self._sagas,
            concurrency=self._concurrency,
            lease=self._lease,
            notify=self._notify,
        )
        return Relay(self._store, self._sagas, self._outage), workers

    def _reached(self) -> Cluster:
        if self._cluster is None:
            raise Unavailable(f"{self.place} has not been reached yet.", reason=Reason.CONNECT)
        return self._cluster

    async def _connect(self) -> None:
        if self._cluster is None:
            client = await connect(self.place, codec=self._codec)
            self._cluster = Cluster(client, self.service)
            self._outage.ended()

    async def _work(self) -> None:
        """Drive and hand on until it stops, or a part fails."""
        cluster = self._reached()
        relaying = asyncio.create_task(self._relay.run(cluster))
        working = asyncio.create_task(self._workers.run(cluster))
        try:
            await asyncio.gather(relaying, working)
        finally:
            for part in (relaying, working):
                part.cancel()
            await asyncio.gather(relaying, working, return_exceptions=True)


class _Started:
    """What a run asks that was started here: its id may turn out to be that of another saga."""

    def __init__(self, engine: TemporalEngine, saga: Saga, start: Start) -> None:
        self._engine = engine
        self._started = saga, start

    async def outcome(self, saga_id: str, within: float) -> Done:
        """Wait for the end of the saga."""
        return await self._engine.outcome(saga_id, within, self._started)

    async def state(self, saga_id: str) -> RunState:
        """Return where the saga stands."""
        return await self._engine.state(saga_id, self._started)


def _check(saga: Saga) -> None:
    """Refuse what Temporal has no place for."""
    if saga.plan.locks:
        raise TemporalRefused(
            f"saga {saga.name} declares the lock {saga.plan.locks[0]}, and on Temporal there is no "
            "transaction that could take it.",
            where=f"saga {saga.name}",
            fix="Let the saga's id be what the lock is on: there is one saga of an id.",
        )
    if saga.keep is not None:
        _log.info("keep of saga %s has no effect: the namespace's retention has", saga.name)


def _unfinished(saga_id: str, status: str) -> SagaUnfinished:
    if status == "queued":
        told = f"saga {saga_id} waits for a person: see `switchgear saga show {saga_id}`."
    else:
        told = f"saga {saga_id} has not ended yet; it is {status}. Ask again by its id."
    return SagaUnfinished(saga_id, status=status, what=told)
