"""SQLite as a service's own database: one writer thread, WAL, and commits that are shared.

SQLite has one writer at a time. Instead of letting connections fight for the lock, one thread
owns the writing connection and takes work in order:

- a *unit* (`write`) is a function that runs whole in that thread. Units that wait together run
  in one database transaction, each in its own savepoint, and share its fsync (group commit).
- a *session* (`transaction`) is a transaction that stays open across awaits. It has the writer to
  itself until it ends, so keep it short; one that stays idle longer than `idle` is rolled back.

Both wait for their turn, and for other processes' writes, no longer than the work in progress can
(`patience`), so that there is time left to say that nothing was done.

Every write is `BEGIN IMMEDIATE`: a transaction that reads first and writes later would fail with
"database is locked" whenever another process wrote in between. Readers have their own threads
and never wait for the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TypeVar

from switchgear.database import schema
from switchgear.database.port import (
    Callbacks,
    DatabaseUnavailable,
    Dialect,
    Reader,
    Row,
    Value,
    committed,
)
from switchgear.database.sqlite_writer import (
    Session,
    Step,
    Unit,
    Writer,
    is_busy,
    rollback,
    translated,
)
from switchgear.errors import DatabaseError, OperationError
from switchgear.model.context import patience

__all__ = ["Sqlite", "SqliteTransaction"]

T = TypeVar("T")
Synchronous = Literal["FULL", "NORMAL", "OFF"]


class SqliteTransaction(Callbacks):
    """An open transaction of a `Sqlite` database, used from asyncio."""

    dialect: Dialect = "sqlite"

    def __init__(self, session: Session, connection: sqlite3.Connection) -> None:
        self._session = session
        self._connection = connection
        self._last: list[Callable[[sqlite3.Connection], object]] = []
        super().__init__()

    @property
    def connection(self) -> sqlite3.Connection:
        """The writing connection. It belongs to the writer thread: use it inside `step` alone."""
        return self._connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement, with `?` or `:name` placeholders, and return its rows."""
        return await self.step(lambda connection: connection.execute(sql, args).fetchall())

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement and return its rows."""
        return await self.step(lambda connection: connection.execute(sql, args).fetchall())

    async def step(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with the connection in the writer thread, inside this transaction."""
        step = Step(work, end=False)
        self._session.put(step)
        result: T = await asyncio.wrap_future(step.future)
        return result

    def before_commit(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Run `work` as `step` does, just before the commit: a change of threads is saved."""
        self._last.append(work)

    def finish(self, connection: sqlite3.Connection) -> None:
        """Do what was to be done before the commit; the database calls it."""
        for work in self._last:
            work(connection)


class Sqlite:
    """One SQLite file. Open it in as many processes as you like; each has one writer thread.

    `synchronous` is SQLite's: FULL (the default) is durable at commit, NORMAL may lose the last
    commits when the machine loses power. `busy` is how many seconds to wait for another process's
    write; `idle` how many seconds a transaction may hold the writer without a statement.
    """

    dialect: Dialect = "sqlite"

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "FULL",
        busy: float = 5.0,
        idle: float = 30.0,
        readers: int = 2,
    ) -> None:
        self.path = Path(path)
        self._synchronous = synchronous
        self._busy = busy
        self._idle = idle
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._watch: sqlite3.Connection | None = None
        self._reader = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._readers = readers
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Sqlite({str(self.path)!r})"

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the writer thread as one transaction; return once it is durable.

        `work` must not begin or end a transaction itself. What it raises undoes its own writes
        and nobody else's, and is raised here.
        """
        unit = Unit(work)
        self._put(unit)
        result = await self._begun(unit.future)
        committed()
        return result

    def write_sync(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do what `write` does from a thread that is not the event loop's."""
        unit = Unit(work)
        self._put(unit)
        return unit.future.result()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with a read-only connection in a reader thread; it sees committed data."""
        if self._pool is None:
            self._start()
        pool = self._pool
        if pool is None or self._closed:
            raise self._closed_error()
        return await asyncio.get_running_loop().run_in_executor(pool, self._read, work)

    def version(self) -> int:
        """Return a number that changes when any connection commits. Costs a few microseconds.

        It belongs to one thread: call it from the event loop's.
        """
        row: tuple[int] = self._glance("PRAGMA data_version")[0]
        return row[0]

    def peek(self, sql: str, *args: Value) -> list[Row] | None:
        """Run a quick look-up in the event loop's own thread; None: it would have to wait.

        For a statement that finds its rows by an index: a change of threads costs ten times that.
        """
        try:
            return self._glance(sql, *args)
        except sqlite3.Error as error:
            if is_busy(error):
                return None
            raise translated(error, self.path) from error

    def _glance(self, sql: str, *args: Value) -> list[Row]:
        if self._watch is None:
            self._watch = self._connect(query_only=True)
            self._watch.execute("PRAGMA busy_timeout = 0")
        return self._watch.execute(sql, args).fetchall()

    @asynccontextmanager
    async def transaction(
        self, first: Callable[[sqlite3.Connection], object] | None = None
    ) -> AsyncIterator[SqliteTransaction]:
        """Open a transaction that may stay open across awaits; it has the writer to itself.

        `first` runs in the writer thread when it begins; what that raises is raised here.
        """
        session = Session(first)
        writer = self._put(session)
        try:
            await self._begun(session.future)
        except BaseException:
            # if the writer had already begun, it waits for a last step
            session.put(Step(rollback, end=True))
            raise
        transaction = SqliteTransaction(session, writer.connection)
        try:
            yield transaction
        except BaseException:
            await _finish(session, rollback)
            raise
        await _finish(session, partial(_commit, writer, transaction))
        committed()
        transaction.committed()

    async def alone(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement as a transaction of its own; it may share its commit."""
        return await self.write(lambda connection: connection.execute(sql, args).fetchall())

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reader]:
        """Give something to read from, in a reader thread."""
        yield _Reader(self)

    async def _begun(self, future: Future[T]) -> T:
        """Wait for work to be begun, as long as the work in progress can, and for its result."""
        waiting = asyncio.wrap_future(future)
        left = patience(inf, monotonic())
        if left == inf:
            return await waiting
        taken_back = False

        def take_back() -> None:
            nonlocal taken_back
            taken_back = future.cancel()

        task = asyncio.current_task()
        others = task.cancelling() if task is not None else 0
        alarm = asyncio.get_running_loop().call_later(left, take_back)
        try:
            return await waiting
        except asyncio.CancelledError:
            if taken_back and task is not None and task.cancelling() == others:
                raise DatabaseUnavailable(
                    f"{self.path.name}: it was locked for as long as could be waited."
                ) from None
            raise
        finally:
            alarm.cancel()

    async def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring the library's tables of `component` up to date; see `Database.migrate`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(schema.TABLE)
            row = connection.execute(schema.VERSION, (component,)).fetchone()
            for statement in schema.pending(component, steps, row[0] if row else 0, "sqlite"):
                connection.execute(statement)
            connection.execute(schema.RECORD, (component, len(steps)))

        await self.write(work)

    async def close(self) -> None:
        """Finish what was queued, then close. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        writer = self._writer
        if writer is not None:
            await asyncio.to_thread(writer.stop)
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown)
        for connection in self._reading:
            connection.close()
        if self._watch is not None:
            self._watch.close()

    def _put(self, item: Unit[Any] | Session) -> Writer:
        writer = self._writer
        if writer is None and not self._closed:
            writer = self._start()
        if writer is None or self._closed:
            raise self._closed_error()
        writer.put(item)
        return writer

    def _closed_error(self) -> DatabaseError:
        return DatabaseError(f"{self.path.name} is closed.", fix="Open it for the service's life.")

    def _start(self) -> Writer | None:
        with self._lock:
            if self._writer is not None or self._closed:
                return self._writer
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                connection = self._connect()
                connection.execute("PRAGMA journal_mode=WAL")
            except (OSError, sqlite3.Error) as error:
                if is_busy(error):
                    raise DatabaseUnavailable(f"{self.path.name}: {error}", cause=error) from error
                raise OperationError(
                    f"cannot open the database {self.path}: {error}.",
                    fix="Check that its folder exists and can be written by this user.",
                ) from error
            self._pool = ThreadPoolExecutor(self._readers, f"read-{self.path.name}")
            self._writer = Writer(connection, self.path, self._idle)
            self._writer.start()
            return self._writer

    def _connect(self, *, query_only: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")
        if query_only:
            connection.execute("PRAGMA query_only=ON")
        return connection

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._connect(query_only=True)
            self._reader.connection = connection
            self._reading.append(connection)
        try:
            return work(connection)
        except sqlite3.Error as error:
            raise translated(error, self.path) from error


class _Reader:
    dialect: Dialect = "sqlite"

    def __init__(self, database: Sqlite) -> None:
        self._database = database

    async def run(self, sql: str, *args: Value) -> list[Row]:
        return await self._database.read(lambda one: one.execute(sql, args).fetchall())


def _commit(writer: Writer, transaction: SqliteTransaction, connection: sqlite3.Connection) -> None:
    transaction.finish(connection)
    writer.commit(connection)


async def _finish(session: Session, work: Callable[[sqlite3.Connection], None]) -> None:
    """End the session and wait for it even if cancelled: a commit under way cannot be recalled."""
    if session.failed is not None and work is rollback:
        return
    step = Step(work, end=True)
    session.put(step)
    waiting = asyncio.ensure_future(asyncio.wrap_future(step.future))
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.exception()
        raise
