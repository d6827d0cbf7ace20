"""The transaction of a keyed request: held open until the reply is stored in it.

The first block of the handler opens the transaction and claims the key; every later block on the
same database continues it. A block that raises is undone alone, by a savepoint, so that a handler
may catch and go on. A refusal undoes all blocks, by the first savepoint, and is stored.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final, TypeAlias

from switchgear.database.port import Database, Transaction
from switchgear.database.sqlite import Sqlite, SqliteTransaction
from switchgear.model.outcome import Reason, Unknown
from switchgear.serve import ledger
from switchgear.serve.ledger import Keyed, Known, Stored

__all__ = ["Answered", "InProgress", "Work", "begun", "unit"]

Manager: TypeAlias = AbstractAsyncContextManager[Transaction]

POLL: Final = 0.02
_WHOLE: Final = "switchgear_whole"


class InProgress(Unknown):
    """The first request with this key has not ended yet. Ask again with the same key."""

    code = "SG304"

    def __init__(self, key: str) -> None:
        super().__init__(
            "a request with this idempotency key is in progress; ask again with the same key.",
            reason=Reason.SERVER_ERROR,
            key=key,
            retry_after=1.0,
        )


class Answered(BaseException):
    """Leaves a handler whose request turned out to be answered already, by another process.

    Not an Exception: a handler's `except Exception` must not keep it.
    """


class Work:
    """The transaction of one keyed request, from its first block to the stored reply.

    `until` is the monotonic time up to which to wait for another process that holds the key;
    `clock` is the wall clock.
    """

    def __init__(
        self, database: Database | None, request: Keyed, until: float, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._request = request
        self._until = until
        self._clock = clock
        self._manager: Manager | None = None
        self._tx: Transaction | None = None
        self._whole: _Savepoint | None = None
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self._over = False
        self.answered: Known | None = None
        """What another process had stored when this one came to claim the key."""

    def covers(self, database: Database) -> bool:
        """Tell whether a block on `database` belongs to this request's transaction."""
        return database is self._database and not self._over

    @asynccontextmanager
    async def block(self) -> AsyncIterator[Transaction]:
        """Run a block of statements inside the transaction; one that raises is undone alone."""
        task = asyncio.current_task()
        if self._holder is task:
            async with self._statements() as tx:
                yield tx
            return
        async with self._turn:
            self._holder = task
            try:
                async with self._statements() as tx:
                    yield tx
            finally:
                self._holder = None

    @asynccontextmanager
    async def _statements(self) -> AsyncIterator[Transaction]:
        tx, whole = self._tx, self._whole
        if tx is None or whole is None:
            tx, whole = await self._begin()
            own = self._whole = whole
        else:
            own = await _Savepoint.set(tx, "switchgear_block")
        try:
            yield tx
        except BaseException:
            await own.undo()
            if own is self._whole:
                self._whole = await _Savepoint.set(tx, _WHOLE)
            raise
        if own is not self._whole:
            await own.release()

    async def _begin(self) -> tuple[Transaction, _Savepoint]:
        """Open the transaction, claim the key in it, and set a place to return to."""
        if self._database is None:
            raise RuntimeError("a request that is remembered in memory has no transaction")
        if isinstance(self._database, Sqlite):
            manager: Manager = self._database.transaction(self._claim_on)
            tx = await manager.__aenter__()
            whole = _Savepoint(tx, _WHOLE, None)
        else:
            manager = self._database.transaction()
            tx = await manager.__aenter__()
            try:
                await self._claim(tx)
                whole = await _Savepoint.set(tx, _WHOLE)
            except BaseException as error:
                await _leave(manager, error)
                raise
        self._manager, self._tx = manager, tx
        return tx, whole

    def _claim_on(self, connection: sqlite3.Connection) -> None:
        """Do what `_claim` does, in SQLite's writer thread, where the transaction begins."""
        self.answered = ledger.record_on(connection, self._request, None, self._clock())
        if self.answered is not None:
            raise Answered
        connection.execute(f"SAVEPOINT {_WHOLE}")

    async def _claim(self, tx: Transaction) -> None:
        while not await ledger.claim(tx, self._request, self._clock()):
            lookup = (self._request.id, self._clock())
            self.answered = ledger.known(await tx.run(ledger.LOOKUP, *lookup))
            if self.answered is not None:
                raise Answered
            if monotonic() >= self._until:
                raise InProgress(self._request.key)
            await asyncio.sleep(POLL)

    async def commit(self, stored: Stored) -> bool:
        """Store the reply in the key's row and commit it with the handler's statements.

        Returns False, and does nothing, if the handler opened no transaction.
        """
        self._over = True
        manager, tx, whole = self._manager, self._tx, self._whole
        if manager is None or tx is None or whole is None:
            return False
        try:
            if stored.refusal is not None:
                await whole.undo()
            if isinstance(tx, SqliteTransaction):
                now = self._clock()
                tx.before_commit(lambda on: ledger.store_on(on, self._request, stored, now))
            else:
                await ledger.store(tx, self._request, stored, self._clock())
        except BaseException as error:
            await _leave(manager, error)
            raise
        await manager.__aexit__(None, None, None)
        return True

    async def end(self, error: BaseException) -> None:
        """Undo everything because of `error`; raises what the database makes of it, if anything."""
        self._over = True
        if self._manager is not None:
            await _leave(self._manager, error)


class _Savepoint:
    """A place to return to. An SQLAlchemy session keeps its own, or it would forget its objects."""

    def __init__(self, tx: Transaction, name: str, nested: Any) -> None:
        self._tx = tx
        self._name = name
        self._nested = nested

    @classmethod
    async def set(cls, tx: Transaction, name: str) -> _Savepoint:
        begin = getattr(tx.connection, "begin_nested", None)
        if begin is not None:
            return cls(tx, name, await begin())
        await tx.run(f"SAVEPOINT {name}")
        return cls(tx, name, None)

    async def undo(self) -> None:
        if self._nested is not None:
            await self._nested.rollback()
            return
        await self._tx.run(f"ROLLBACK TO SAVEPOINT {self._name}")
        await self._tx.run(f"RELEASE SAVEPOINT {self._name}")

    async def release(self) -> None:
        if self._nested is not None:
            await self._nested.commit()
            return
        await self._tx.run(f"RELEASE SAVEPOINT {self._name}")


begun: ContextVar[Work | None] = ContextVar("switchgear_keyed_work", default=None)
"""The keyed request that this code works for."""


@asynccontextmanager
async def unit(database: Database) -> AsyncIterator[Transaction]:
    """Open a transaction of the work in progress.

    In a keyed request, on the database that keeps its replies, the block joins the one transaction
    that will be committed together with the reply. Anywhere else it is `database.transaction()`.

    Raises what `Database.transaction` raises, and `InProgress` if another process holds the key.
    """
    work = begun.get()
    if work is None or not work.covers(database):
        async with database.transaction() as tx:
            yield tx
        return
    async with work.block() as tx:
        yield tx


async def _leave(manager: Manager, error: BaseException) -> None:
    """End a transaction because of `error`; what the database makes of it is raised instead."""
    await manager.__aexit__(type(error), error, error.__traceback__)
