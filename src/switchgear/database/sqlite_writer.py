"""The one thread that writes to an SQLite file, and what it is given to do.

Work waits in order, and is begun once the file's lock is held. Until then it can be taken back by
cancelling its future, and it is certain that nothing was done; after that it cannot. That is why a
future is only marked as running when `BEGIN IMMEDIATE` has succeeded.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from switchgear.database.port import DatabaseUnavailable
from switchgear.model.outcome import Reason, Unknown

__all__ = ["Session", "Step", "Unit", "Writer", "is_busy", "rollback", "translated"]

T = TypeVar("T")

_GROUP: Final = 256
_NOT_COMMITTED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_LOCKED})
_GONE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)


class Unit(Generic[T]):
    """A function that runs whole in the writer thread."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.future: Future[T] = Future()


class Step:
    """One function of a session; with `end`, its last."""

    __slots__ = ("end", "future", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], object], *, end: bool) -> None:
        self.work = work
        self.end = end
        self.future: Future[Any] = Future()


class Session:
    """A transaction that stays open between its steps. `first` runs when it begins."""

    __slots__ = ("failed", "first", "future", "steps")

    def __init__(self, first: Callable[[sqlite3.Connection], object] | None = None) -> None:
        self.first = first
        self.future: Future[None] = Future()
        """Done when it has begun."""
        self.steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
        self.failed: BaseException | None = None

    def put(self, step: Step) -> None:
        """Let the writer do `step`, or fail it if the session was given up."""
        self.steps.put(step)
        self.refuse()

    def refuse(self) -> None:
        """Fail what is queued on a session that was given up.

        Both sides call it after they act, so that a step queued while the writer gives up is
        answered.
        """
        if self.failed is None:
            return
        with contextlib.suppress(queue.Empty):
            while True:
                self.steps.get_nowait().future.set_exception(self.failed)


class Writer:
    """The thread, from `start` to `stop`. `idle`: seconds a session may go without a step."""

    def __init__(self, connection: sqlite3.Connection, path: Path, idle: float) -> None:
        self.connection = connection
        self._path = path
        self._idle = idle
        self._queue: queue.SimpleQueue[Unit[Any] | Session | None] = queue.SimpleQueue()
        self._waiting: deque[Unit[Any] | Session | None] = deque()
        self._thread = threading.Thread(target=self._run, name=f"write-{path.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: Unit[Any] | Session) -> None:
        """Let it be done in its turn."""
        self._queue.put(item)

    def stop(self) -> None:
        """Finish what was queued, close the connection, and wait for that."""
        self._queue.put(None)
        self._thread.join()

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit, and say whether it is certain that it was not."""
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction and _primary(error) in _NOT_COMMITTED:
                connection.execute("ROLLBACK")
                raise DatabaseUnavailable(f"{self._path.name}: {error}", cause=error) from error
            raise Unknown(
                f"{self._path.name}: the commit failed: {error}", reason=Reason.RESET, cause=error
            ) from error

    def _run(self) -> None:
        """Take work in order until told to stop; the thread's main function."""
        while True:
            item = self._waiting.popleft() if self._waiting else self._queue.get()
            if item is None:
                break
            if isinstance(item, Session):
                self._serve(item, self.connection)
            else:
                self._write(self._group(item), self.connection)
        self.connection.close()

    def _group(self, first: Unit[Any]) -> list[Unit[Any]]:
        """Return the units that wait behind `first` and share its commit, in order."""
        units = [first]
        with contextlib.suppress(queue.Empty):
            while len(units) < _GROUP:
                item = self._queue.get_nowait()
                if not isinstance(item, Unit):
                    self._waiting.append(item)
                    break
                units.append(item)
        return [unit for unit in units if not unit.future.cancelled()]

    def _write(self, waiting: Sequence[Unit[Any]], connection: sqlite3.Connection) -> None:
        if not waiting:
            return
        units: list[Unit[Any]] = []
        results: list[tuple[Unit[Any], object]] = []
        try:
            try:
                connection.execute("BEGIN IMMEDIATE")
            finally:
                units += [one for one in waiting if one.future.set_running_or_notify_cancel()]
            for unit in units:
                connection.execute("SAVEPOINT unit")
                try:
                    results.append((unit, unit.work(connection)))
                except BaseException as error:
                    if not connection.in_transaction:
                        raise  # SQLite gave the whole transaction up: every unit is undone
                    connection.execute("ROLLBACK TO unit")
                    unit.future.set_exception(translated(error, self._path))
                connection.execute("RELEASE unit")
            self.commit(connection)
        except BaseException as error:  # noqa: BLE001  every unit gets it; the writer lives on
            failure = translated(error, self._path)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for unit in units:
                if not unit.future.done():
                    unit.future.set_exception(failure)
            return
        for unit, result in results:
            unit.future.set_result(result)

    def _serve(self, session: Session, connection: sqlite3.Connection) -> None:
        """Hold the writer for one session until its last step, or until it idles too long."""
        if not self._begin(session, connection):
            return
        while True:
            try:
                step = session.steps.get(timeout=self._idle)
            except queue.Empty:
                rollback(connection)
                session.failed = DatabaseUnavailable(
                    f"{self._path.name}: a transaction was rolled back after {self._idle:g} s "
                    "without a statement. Do slow work before it begins.",
                    retry_after=None,
                )
                session.refuse()
                return
            if step.future.set_running_or_notify_cancel():
                try:
                    step.future.set_result(step.work(connection))
                except BaseException as error:  # noqa: BLE001  it is the caller's, raised there
                    step.future.set_exception(translated(error, self._path))
            if step.end:
                rollback(connection)
                return

    def _begin(self, session: Session, connection: sqlite3.Connection) -> bool:
        """Begin a session; False if it was taken back, or could not."""
        if session.future.cancelled():
            return False
        try:
            connection.execute("BEGIN IMMEDIATE")
            if session.first is not None and not session.future.cancelled():
                session.first(connection)
        except BaseException as error:  # noqa: BLE001  it is the caller's, raised there
            rollback(connection)
            session.failed = translated(error, self._path)
            if session.future.set_running_or_notify_cancel():
                session.future.set_exception(session.failed)
            return False
        if not session.future.set_running_or_notify_cancel():
            rollback(connection)
            return False
        session.future.set_result(None)
        return True


def rollback(connection: sqlite3.Connection) -> None:
    """Undo what is open, if anything is."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def is_busy(error: BaseException) -> bool:
    """Tell whether somebody else's lock is the reason."""
    return isinstance(error, sqlite3.Error) and _primary(error) == sqlite3.SQLITE_BUSY


def translated(error: BaseException, path: Path) -> BaseException:
    """Turn "locked or gone" into `DatabaseUnavailable`; any other error stays as it is."""
    if isinstance(error, sqlite3.Error) and _primary(error) in _GONE:
        return DatabaseUnavailable(f"{path.name}: {error}", cause=error)
    return error


def _primary(error: sqlite3.Error) -> int:
    """Return the primary result code: the low byte of the extended one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
