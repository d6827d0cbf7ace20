"""Keyed commands: executed once per key, and a duplicate gets the reply that was stored.

The rules
---------
A request of a keyed command that carries an idempotency key is known by a digest of three things:
who asks (if `before` authenticated somebody), the operation, and the key. Its fingerprint is a
digest of the message.

1. A duplicate in the same process waits for the first, a little.
2. A stored reply or refusal is answered at once; the same key with another message is rejected.
3. Else the handler runs. Its transaction (`unit`) begins by claiming the key's row, and is held
   open when the handler leaves the block: the reply is stored in that row and both are committed
   together. A refusal undoes the handler's statements first, and is stored all the same.
4. Any other end undoes everything, the claim included: the key is free again.
5. A duplicate in another process waits a little as well, for an advisory lock: on PostgreSQL the
   claim takes it, on SQLite it is held from before the handler (`database/advisory.py`).
6. A handler that opened no transaction gets the row written after it returned.

Who waited in vain is told that the outcome is not known yet (`InProgress`), never to start anew.
The decision and its limits are in docs/decisions/0006-doors-and-idempotency.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic, time
from typing import Final

from switchgear.database.advisory import AdvisoryLocks
from switchgear.database.port import Database, commits
from switchgear.database.sqlite import Sqlite
from switchgear.errors import CallError, DatabaseError
from switchgear.model.context import patience
from switchgear.serve import ledger
from switchgear.serve.ledger import Keyed, Known, Stored, digest
from switchgear.serve.unit import POLL, InProgress, Work, begun, unit

__all__ = ["Idempotency", "InProgress", "Keyed", "Stored", "digest", "unit"]

log = logging.getLogger("switchgear.serve")

_BATCH: Final = 500
_REMEMBERED: Final = 10_000


class Idempotency:
    """Remembers how keyed commands ended, in the service's own database.

    `wait` is how many seconds a duplicate waits for the first request; `sweep` how many seconds
    pass between clean-ups of expired rows. With `database=None` it remembers in memory: the last
    10,000 requests of this process, until it ends.

    One object belongs to one event loop. `clock` is the wall clock, in seconds.
    """

    def __init__(
        self,
        database: Database | None,
        *,
        wait: float = 2.0,
        sweep: float = 60.0,
        clock: Callable[[], float] = time,
    ) -> None:
        self.database = database
        self._wait = wait
        self._sweep_every = sweep
        self._clock = clock
        self._locks = AdvisoryLocks(database.path) if isinstance(database, Sqlite) else None
        self._running: dict[bytes, asyncio.Future[None]] = {}
        self._memory: OrderedDict[bytes, tuple[float, Known]] = OrderedDict()
        self._migrated = database is None
        self._opening = asyncio.Lock()
        self._swept = monotonic()
        self._sweeping: asyncio.Task[None] | None = None

    async def migrate(self) -> None:
        """Create or update the table. `run` does it on first use; a service does it at start."""
        async with self._opening:
            if self.database is not None and not self._migrated:
                with commits():  # not an effect of the request that happens to come first
                    await self.database.migrate("idempotency", ledger.STEPS)
                self._migrated = True

    async def close(self) -> None:
        """Wait for a clean-up that is under way."""
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])
        if self._locks is not None:
            self._locks.close()

    async def run(self, request: Keyed, work: Callable[[], Awaitable[Stored]]) -> Stored:
        """Return what is stored for `request`; if nothing is, what `work` returns, stored.

        Raises `InProgress` if the first request with the key does not end in time, `Rejected` if
        it carried another message, and whatever `work` raises, which is not stored.
        """
        if not self._migrated:
            await self.migrate()
        now = monotonic()
        until = now + patience(self._wait, now)
        while (first := self._running.get(request.id)) is not None:
            await asyncio.wait([first], timeout=max(0.0, until - monotonic()))
            if not first.done():
                raise InProgress(request.key)
        mine = self._running[request.id] = asyncio.get_running_loop().create_future()
        lock = int.from_bytes(request.id[:8])
        held = False
        try:
            if self._locks is not None:
                held = await self._lock(self._locks, lock, request, until)
            found = await self._lookup(request)
            if found is None:
                return await self._execute(request, work, until)
            return ledger.same(request, found)
        finally:
            if self._locks is not None and held:
                self._locks.give(lock)
            del self._running[request.id]
            mine.set_result(None)
            self._sweep_if_due()

    @staticmethod
    async def _lock(locks: AdvisoryLocks, number: int, request: Keyed, until: float) -> bool:
        """Wait until no other process works for the key; raises `InProgress` if that lasts."""
        while not locks.take(number):
            if monotonic() >= until:
                raise InProgress(request.key)
            await asyncio.sleep(POLL)
        return True

    async def sweep(self) -> int:
        """Delete expired rows, in batches of 500; return how many."""
        if self.database is None:
            return 0
        deleted, last = 0, _BATCH
        while last == _BATCH:
            last = len(await self.database.alone(ledger.SWEEP, self._clock(), _BATCH))
            deleted += last
        return deleted

    async def _lookup(self, request: Keyed) -> Known | None:
        values = (request.id, self._clock())
        if self.database is None:
            expires, found = self._memory.get(request.id, (0.0, None))
            return found if expires > values[1] else None
        if isinstance(self.database, Sqlite):
            rows = self.database.peek(ledger.LOOKUP, *values)
            if rows is not None:
                return ledger.known(rows)
        with commits():  # a look is not an effect of the request, where it is a transaction
            async with self.database.reading() as reader:
                return ledger.known(await reader.run(ledger.LOOKUP, *values))

    async def _execute(
        self, request: Keyed, work: Callable[[], Awaitable[Stored]], until: float
    ) -> Stored:
        keeping = Work(self.database, request, until, self._clock)
        token = begun.set(keeping)
        try:
            stored = await work()
        except BaseException as error:
            await keeping.end(error)
            # whatever the handler made of `Answered`, its request was answered
            if keeping.answered is not None:
                return ledger.same(request, keeping.answered)
            raise
        finally:
            begun.reset(token)
        if keeping.answered is not None:
            return ledger.same(request, keeping.answered)
        if await keeping.commit(stored):
            return stored
        return await self._record(request, stored)

    async def _record(self, request: Keyed, stored: Stored) -> Stored:
        """Store the end of a handler that opened no transaction."""
        now = self._clock()
        if self.database is None:
            expires = now + request.retention
            self._memory[request.id] = (expires, Known(request.fingerprint, stored))
            self._memory.move_to_end(request.id)
            if len(self._memory) > _REMEMBERED:
                self._memory.popitem(last=False)
            return stored
        try:
            found = await self._write(self.database, request, stored, now)
        except (CallError, DatabaseError):
            # What the handler did is done, and it was not in a transaction of ours. To answer is
            # the only way left to keep the caller from asking again.
            log.exception("the reply to %s could not be stored under its key", request.operation)
            return stored
        return stored if found is None else ledger.same(request, found)

    async def _write(
        self, database: Database, request: Keyed, stored: Stored, now: float
    ) -> Known | None:
        """Write the row; return the one that another process has written meanwhile."""
        if isinstance(database, Sqlite):
            return await database.write(
                lambda connection: ledger.record_on(connection, request, stored, now)
            )
        if await database.alone(ledger.RECORD, *ledger.record_values(request, stored, now)):
            return None
        async with database.reading() as reader:
            return ledger.known(await reader.run(ledger.LOOKUP, request.id, now))

    def _sweep_if_due(self) -> None:
        if self.database is None or monotonic() - self._swept < self._sweep_every:
            return
        self._swept = monotonic()
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep_quietly())

    async def _sweep_quietly(self) -> None:
        try:
            await self.sweep()
        except (CallError, DatabaseError):
            # nobody waits for it, and it comes again
            log.exception("expired idempotency keys could not be deleted")
