"""Handling events in the consumer's transaction: the unit of work, and what a handler is given.

A `Unit` is one transaction for one or several events. It claims their inbox rows, runs each event
inside a savepoint if there are several, and commits them together. A lazy unit begins with the
first statement: on SQLite, a handler that first asks another service then does not hold the only
writer meanwhile.

The savepoint of an event is set by its first statement, in one way there and back with the release
of the one before: a handler that writes nothing costs none. Who takes the driver's own connection
may write without our seeing it. So the first time the events before it are not protected from it,
and if it fails, the unit is rolled back and each of its events is handled alone (`Unprotected`);
from then on the subscription's savepoints are set before its handlers run.

On SQLite a statement costs a few microseconds and a change of threads a hundred. While the unit has
the writer to itself, and the writer's thread waits for it, statements run right here; one that was
slow before goes to that thread, so that it does not hold up the event loop.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from switchgear.contract.message import Message
from switchgear.database.port import (
    Database,
    DatabaseUnavailable,
    Dialect,
    Row,
    Transaction,
    Value,
)
from switchgear.database.postgres import Postgres, PostgresTransaction
from switchgear.database.sqlite import Sqlite, SqliteTransaction
from switchgear.errors import DatabaseError
from switchgear.events.inbox import Inbox
from switchgear.events.outbox import Outbox, Prepared
from switchgear.events.sql import execute_many, write_many

__all__ = ["Duplicate", "HandlerTransaction", "Undo", "Unit", "Unprotected", "shares"]

T = TypeVar("T")

_SLOW: Final = 0.005
_STRIKES: Final = 2
_REMEMBERED: Final = 1_000
_TRUST: Final = 1.0
"""Seconds after a step for which the writer's thread certainly still waits for the unit."""
_GONE: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
)


def shares(database: Database) -> bool:
    """Tell whether several events may share a transaction of `database`.

    Not on an SQLAlchemy session: what its identity map holds does not go back to a savepoint.
    """
    return isinstance(database, Sqlite | Postgres)


class _Inline:
    """The statements of a SQLite transaction, run on the calling thread. See the head."""

    dialect: Dialect = "sqlite"

    def __init__(self, tx: SqliteTransaction, slow: dict[str, int]) -> None:
        self.tx = tx
        self._slow = slow
        self.connection = tx.connection
        self._trusted_until = time.monotonic() + _TRUST

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement and return its rows."""
        return await self._do(sql, _fetch, sql, args)

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement and return its rows."""
        return await self._do(sql, _fetch, sql, args)

    async def many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run one portable statement once per row."""
        await self._do(f"{sql} /* {len(rows)} */", execute_many, sql, rows)

    def savepoint(self, sql: str) -> bool:
        """Run a statement about a savepoint at once, if that is safe; tell whether it was."""
        if time.monotonic() > self._trusted_until or not self.connection.in_transaction:
            return False
        self.connection.execute(sql).close()
        return True

    async def step(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the writer's thread."""
        result = await self.tx.step(work)
        self._trusted_until = time.monotonic() + _TRUST
        return result

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` after the commit."""
        self.tx.after_commit(callback)

    async def _do(
        self,
        name: str,
        work: Callable[[sqlite3.Connection, str, Sequence[Any]], T],
        sql: str,
        args: Sequence[Any],
    ) -> T:
        began = time.monotonic()
        strikes = self._slow.get(name, 0)
        if strikes >= _STRIKES or began > self._trusted_until:
            result = await self.step(lambda connection: work(connection, sql, args))
            if strikes and time.monotonic() - began < _SLOW:
                self._slow[name] = strikes - 1
            return result
        if not self.connection.in_transaction:
            raise DatabaseUnavailable("SQLite has rolled the transaction back.")
        try:
            return work(self.connection, sql, args)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _GONE:
                raise DatabaseUnavailable(f"the database: {error}", cause=error) from error
            raise
        finally:
            if time.monotonic() - began > _SLOW and len(self._slow) < _REMEMBERED:
                self._slow[name] = strikes + 1


def _fetch(connection: sqlite3.Connection, sql: str, args: Sequence[Any]) -> list[Row]:
    return connection.execute(sql, args).fetchall()


class Undo(Exception):
    """Leave the unit without committing; what is to be reported is already known."""


class Unprotected(Exception):
    """Leave the unit without committing: each of its events has to be handled alone."""


class Unit:
    """One transaction for `events` (their identities) of one consumer; use it with `async with`.

    Leaving the block commits what was handled, and gives back the claims of what was not; an
    exception rolls everything back. A unit that nobody opened commits nothing.
    """

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        outbox: Outbox,
        events: Sequence[str],
        *,
        slow: dict[str, int],
        eager: bool = False,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._outbox = outbox
        self._events = events
        self._slow = slow
        self._stack = AsyncExitStack()
        self._rows: list[Prepared] = []
        self._callbacks: list[Callable[[], None]] = []
        self._unhandled: set[str] = set()
        """Claimed by this unit and not handled in it, so far."""
        self._shared = len(events) > 1
        self._eager = eager
        self._saved = self._exposed = False
        """Whether a savepoint is set; whether the event under way may have written without one."""
        self._pending = False
        """The event under way has no savepoint of its own yet."""
        self.direct = False
        """Whether a handler has taken the driver's own connection."""
        self.tx: Transaction | None = None
        self.waited = 0.0
        """Seconds that it took to begin."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""
        return self._database.dialect

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None or self.tx is None:
            await self._stack.__aexit__(kind, error, trace)
            return
        async with self._stack:
            # a claim committed without the work would lose the event
            for event in self._unhandled:
                await self._inbox.disclaim(self.tx, event)
            await self._outbox.write(self.tx, self._rows)
            for callback in self._callbacks:
                self.tx.after_commit(callback)

    async def open(self) -> Transaction:
        """Begin the transaction and claim the events, unless that is done already."""
        if self.tx is None:
            began = time.monotonic()
            tx: Transaction = await self._stack.enter_async_context(self._database.transaction())
            if isinstance(tx, SqliteTransaction) and sqlite3.threadsafety == 3:  # noqa: PLR2004
                tx = _Inline(tx, self._slow)
            self._unhandled = await self._inbox.claim(tx, self._events)
            self.tx = tx
            self.waited = time.monotonic() - began
        return self.tx

    async def is_fresh(self, event: str) -> bool:
        """Claim; tell whether the event has not been handled before."""
        await self.open()
        return event in self._unhandled

    def claims(self, event: str) -> bool:
        """Tell whether the unit has begun and the event is its own to handle."""
        return event in self._unhandled

    async def begin(self, event: str) -> HandlerTransaction:
        """Begin the work of one event; return what its handler is given."""
        self._pending, self._exposed = self._shared, False
        if self._eager:
            await self.protect()
        return HandlerTransaction(self, event, self._outbox)

    async def protect(self) -> None:
        """Set the savepoint of the event under way, unless that is done already."""
        if not self._pending:
            return
        self._pending, saved = False, self._saved
        self._saved = True
        try:
            release = ["RELEASE SAVEPOINT event"] if saved else []
            await self._savepoint(*release, "SAVEPOINT event")
        except BaseException:
            # an earlier event has caught the error of a statement, which has aborted them all
            self._exposed = True
            raise

    def expose(self) -> None:
        """Take note that the driver's own connection is taken."""
        self.direct = True
        self._exposed = self._exposed or self._pending

    def keep(self, scope: HandlerTransaction) -> None:
        """Keep the work of one event, to be committed with the others'."""
        self.handled(scope.event)
        self._rows += scope.rows
        self._callbacks += scope.callbacks

    def handled(self, event: str) -> None:
        """Take note that the work of one event is done: its claim is committed.

        A second copy of it, later in the same unit, is no longer fresh.
        """
        self._unhandled.discard(event)

    async def undo(self) -> None:
        """Undo the work of one event since `begin`; the others' stays.

        Raises `Undo`, to be caught outside of the unit, where the event has it to itself, and
        `Unprotected` where the others' cannot stay.
        """
        if not self._shared:
            raise Undo
        if self._exposed:
            raise Unprotected
        if not self._pending:
            await self._savepoint("ROLLBACK TO SAVEPOINT event")

    async def _savepoint(self, *statements: str) -> None:
        tx = await self.open()
        if isinstance(tx, PostgresTransaction):
            await tx.script("; ".join(statements))
            return
        for sql in statements:
            if not (isinstance(tx, _Inline) and tx.savepoint(sql)):
                await tx.run(sql)


class HandlerTransaction:
    """The transaction that a handler takes part in: a `Transaction` that can also publish.

    It commits together with the inbox row of the event, after the handler has returned.
    """

    def __init__(self, unit: Unit, event: str, outbox: Outbox) -> None:
        self._unit = unit
        self.event = event
        self._outbox = outbox
        self.rows: list[Prepared] = []
        self.callbacks: list[Callable[[], None]] = []

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""
        return self._unit.dialect

    @property
    def connection(self) -> Any:
        """The driver's own object: an asyncpg connection, an AsyncSession.

        On SQLite use `step`: the transaction begins with the first statement, and the connection
        belongs to another thread.
        """
        if self._unit.tx is None:
            raise DatabaseError(
                "the transaction has not begun: on SQLite it begins with the first statement.",
                fix="Use `await tx.step(lambda connection: ...)`.",
            )
        self._unit.expose()
        return self._unit.tx.connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement, with the database's own placeholders, and return its rows."""
        return await (await self._begun()).execute(sql, *args)

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement, with `?` placeholders, and return its rows."""
        return await (await self._begun()).run(sql, *args)

    async def many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run one portable statement once per row."""
        await write_many(await self._begun(), sql, rows)

    async def step(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """On SQLite: run `work` with the connection, in the thread that owns it."""
        tx = await self._begun()
        if not isinstance(tx, _Inline | SqliteTransaction):
            raise DatabaseError("`step` is for SQLite.", fix="Use `tx.connection`.")
        return await tx.step(work)

    def publish(self, *events: Message) -> None:
        """Publish events if and when this transaction commits, after its other writes."""
        self.buffer([self._outbox.prepare(event) for event in events])

    def buffer(self, rows: Sequence[Prepared]) -> None:
        """Publish what `Outbox.prepare` returned, as `publish` does."""
        self.rows += rows

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the transaction has been committed, and never if it is not."""
        self.callbacks.append(callback)

    async def _begun(self) -> Transaction:
        tx = self._unit.tx
        if tx is None or not self._unit.claims(self.event):
            if not await self._unit.is_fresh(self.event):
                raise Duplicate(f"{self.event} was handled by another member meanwhile.")
            tx = await self._unit.open()
        await self._unit.protect()
        return tx


class Duplicate(DatabaseError):
    """Another member has handled the event meanwhile; this handler's work is undone."""

    code = "SG503"
