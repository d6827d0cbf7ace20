"""SQLite as a service's own database: one writer thread, WAL, and commits that are shared.

SQLite has one writer at a time. Instead of letting connections fight for the lock, one thread
owns the writing connection and takes work in order:

- a *unit* (`write`) is a function that runs whole in that thread. Units that wait together run
  in one database transaction, each in its own savepoint, and share its fsync (group commit).
- a *session* (`transaction`) is a transaction that stays open across awaits. It has the writer to
  itself until it ends, so keep it short; one that stays idle longer than `idle` is rolled back.

Every write is `BEGIN IMMEDIATE`: a transaction that reads first and writes later would fail with
"database is locked" whenever another process wrote in between. Readers have their own threads
and never wait for the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from switchgear.database import schema
from switchgear.database.port import (
    Callbacks,
    DatabaseUnavailable,
    Dialect,
    Row,
    Value,
    committed,
)
from switchgear.errors import DatabaseError, OperationError
from switchgear.model.outcome import Reason, Unknown

__all__ = ["Sqlite", "SqliteTransaction"]

T = TypeVar("T")
Synchronous = Literal["FULL", "NORMAL", "OFF"]

_GROUP = 256
_NOT_COMMITTED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_LOCKED})
_GONE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)


def _primary(error: sqlite3.Error) -> int:
    """Return the primary result code: the low byte of the extended one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _translated(error: BaseException, path: Path) -> BaseException:
    """Turn "locked or gone" into `DatabaseUnavailable`; any other error stays as it is."""
    if isinstance(error, sqlite3.Error) and _primary(error) in _GONE:
        return DatabaseUnavailable(f"{path.name}: {error}", cause=error)
    return error


class _Unit(Generic[T]):
    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.future: Future[T] = Future()


class _Session:
    __slots__ = ("begun", "failed", "steps")

    def __init__(self) -> None:
        self.begun: Future[None] = Future()
        self.steps: queue.SimpleQueue[_Step] = queue.SimpleQueue()
        self.failed: BaseException | None = None


class _Step:
    __slots__ = ("end", "future", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], object], *, end: bool) -> None:
        self.work = work
        self.end = end
        self.future: Future[Any] = Future()


class SqliteTransaction(Callbacks):
    """An open transaction of a `Sqlite` database, used from asyncio."""

    dialect: Dialect = "sqlite"

    def __init__(self, session: _Session, connection: sqlite3.Connection) -> None:
        self._session = session
        self._connection = connection
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
        step = _Step(work, end=False)
        self._session.steps.put(step)
        _refuse_steps(self._session)
        result: T = await asyncio.wrap_future(step.future)
        return result


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
        self._queue: queue.SimpleQueue[_Unit[Any] | _Session | None] = queue.SimpleQueue()
        self._waiting: deque[_Unit[Any] | _Session | None] = deque()
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
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
        unit = _Unit(work)
        self._put(unit)
        result = await asyncio.wrap_future(unit.future)
        committed()
        return result

    def write_sync(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do what `write` does from a thread that is not the event loop's."""
        unit = _Unit(work)
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
        if self._watch is None:
            self._watch = self._connect(query_only=True)
        row: tuple[int] = self._watch.execute("PRAGMA data_version").fetchone()
        return row[0]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteTransaction]:
        """Open a transaction that may stay open across awaits; it has the writer to itself."""
        session = _Session()
        self._put(session)
        try:
            await asyncio.wrap_future(session.begun)
        except asyncio.CancelledError:
            # if the writer had already begun, it waits for a last step
            session.steps.put(_Step(_rollback, end=True))
            raise
        if self._connection is None:
            raise self._closed_error()
        transaction = SqliteTransaction(session, self._connection)
        try:
            yield transaction
        except BaseException:
            await _finish(session, _rollback)
            raise
        await _finish(session, self._commit)
        committed()
        transaction.committed()

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
            self._queue.put(None)
            await asyncio.to_thread(writer.join)
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown)
        for connection in self._reading:
            connection.close()
        if self._watch is not None:
            self._watch.close()

    def _put(self, item: _Unit[Any] | _Session) -> None:
        if self._closed:
            raise self._closed_error()
        if self._writer is None:
            self._start()
        self._queue.put(item)

    def _closed_error(self) -> DatabaseError:
        return DatabaseError(f"{self.path.name} is closed.", fix="Open it for the service's life.")

    def _start(self) -> None:
        with self._lock:
            if self._writer is not None or self._closed:
                return
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                connection = self._connect()
                connection.execute("PRAGMA journal_mode=WAL")
            except (OSError, sqlite3.Error) as error:
                if isinstance(error, sqlite3.Error) and _primary(error) == sqlite3.SQLITE_BUSY:
                    raise DatabaseUnavailable(f"{self.path.name}: {error}", cause=error) from error
                raise OperationError(
                    f"cannot open the database {self.path}: {error}.",
                    fix="Check that its folder exists and can be written by this user.",
                ) from error
            self._connection = connection
            self._pool = ThreadPoolExecutor(self._readers, f"read-{self.path.name}")
            self._writer = threading.Thread(
                target=self._run, args=(connection,), name=f"write-{self.path.name}", daemon=True
            )
            self._writer.start()

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
            raise _translated(error, self.path) from error

    def _run(self, connection: sqlite3.Connection) -> None:
        """Take work in order until told to stop; the writer thread's main function."""
        while True:
            item = self._waiting.popleft() if self._waiting else self._queue.get()
            if item is None:
                break
            if isinstance(item, _Session):
                self._serve(item, connection)
            else:
                self._write(self._group(item), connection)
        connection.close()

    def _group(self, first: _Unit[Any]) -> list[_Unit[Any]]:
        """Return the units that wait behind `first` and share its commit, in order."""
        units = [first]
        with contextlib.suppress(queue.Empty):
            while len(units) < _GROUP:
                item = self._queue.get_nowait()
                if not isinstance(item, _Unit):
                    self._waiting.append(item)
                    break
                units.append(item)
        return [unit for unit in units if unit.future.set_running_or_notify_cancel()]

    def _write(self, units: Sequence[_Unit[Any]], connection: sqlite3.Connection) -> None:
        results: list[tuple[_Unit[Any], object]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for unit in units:
                connection.execute("SAVEPOINT unit")
                try:
                    results.append((unit, unit.work(connection)))
                except BaseException as error:
                    if not connection.in_transaction:
                        raise  # SQLite gave the whole transaction up: every unit is undone
                    connection.execute("ROLLBACK TO unit")
                    failure = _translated(error, self.path)
                    unit.future.set_exception(failure)
                connection.execute("RELEASE unit")
            self._commit(connection)
        except BaseException as error:  # noqa: BLE001  every unit gets it; the writer lives on
            failure = _translated(error, self.path)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for unit in units:
                if not unit.future.done():
                    unit.future.set_exception(failure)
            return
        for unit, result in results:
            unit.future.set_result(result)

    def _serve(self, session: _Session, connection: sqlite3.Connection) -> None:
        """Hold the writer for one session until its last step, or until it idles too long."""
        if not session.begun.set_running_or_notify_cancel():
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            session.failed = _translated(error, self.path)
            session.begun.set_exception(session.failed)
            return
        session.begun.set_result(None)
        while True:
            try:
                step = session.steps.get(timeout=self._idle)
            except queue.Empty:
                connection.execute("ROLLBACK")
                session.failed = DatabaseUnavailable(
                    f"{self.path.name}: a transaction was rolled back after {self._idle:g} s "
                    "without a statement. Do slow work before it begins.",
                    retry_after=None,
                )
                _refuse_steps(session)
                return
            if step.future.set_running_or_notify_cancel():
                try:
                    step.future.set_result(step.work(connection))
                except BaseException as error:  # noqa: BLE001  it is the caller's, raised there
                    step.future.set_exception(_translated(error, self.path))
            if step.end:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                return

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction and _primary(error) in _NOT_COMMITTED:
                connection.execute("ROLLBACK")
                raise DatabaseUnavailable(f"{self.path.name}: {error}", cause=error) from error
            raise Unknown(
                f"{self.path.name}: the commit failed: {error}", reason=Reason.RESET, cause=error
            ) from error


def _refuse_steps(session: _Session) -> None:
    """Fail what is queued on a session that was given up.

    Both sides call it after they act, so that a step queued while the writer gives up is answered.
    """
    if session.failed is None:
        return
    with contextlib.suppress(queue.Empty):
        while True:
            session.steps.get_nowait().future.set_exception(session.failed)


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


async def _finish(session: _Session, work: Callable[[sqlite3.Connection], None]) -> None:
    """End the session and wait for it even if cancelled: a commit under way cannot be recalled."""
    if session.failed is not None and work is _rollback:
        return
    step = _Step(work, end=True)
    session.steps.put(step)
    _refuse_steps(session)
    waiting = asyncio.ensure_future(asyncio.wrap_future(step.future))
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.exception()
        raise
