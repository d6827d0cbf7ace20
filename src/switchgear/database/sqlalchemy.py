"""SQLAlchemy's AsyncEngine, on PostgreSQL or SQLite, as a service's own database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from switchgear.database import schema
from switchgear.database.port import (
    Callbacks,
    DatabaseUnavailable,
    Dialect,
    Reader,
    Row,
    TransactionAborted,
    Value,
    committed,
    placeholders,
)
from switchgear.errors import DatabaseError, MissingExtra
from switchgear.model.context import patience
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, ExceptionContext
    from sqlalchemy.engine import Dialect as EngineDialect
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

__all__ = ["SqlAlchemy", "SqlAlchemyTransaction", "dialect_of"]

_OTHERS: Final = frozenset({"40001", "40P01", "55P03"})
"""What PostgreSQL says of a transaction that it could not serialise, a deadlock, and a lock."""
_ANSWER: Final = 5.0
"""Seconds for which a commit's answer is waited for by who was cancelled."""
_ENDED: Final = (5.0, 5.0)
"""Seconds that its connection has to end after that, and once more when it is cut off."""
_FAILED: Final = "switchgear_failed"
"""Of a connection's notes: a statement has failed since its transaction began."""


def dialect_of(dialect: EngineDialect) -> Dialect:
    """Return our name for an engine's dialect. Raises `DatabaseError` for one we do not support."""
    if dialect.name == "postgresql":
        return "postgres"
    if dialect.name == "sqlite":
        return "sqlite"
    raise DatabaseError(
        f"the dialect {dialect.name} is not supported.", fix="Use PostgreSQL or SQLite."
    )


class SqlAlchemyTransaction(Callbacks):
    """An open transaction of an AsyncSession or AsyncConnection; the owner begins and ends it."""

    def __init__(self, connection: AsyncSession | AsyncConnection, dialect: Dialect) -> None:
        self.connection = connection
        self.dialect: Dialect = dialect
        super().__init__()

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one textual statement with `:p1`, `:p2` placeholders and return its rows."""
        from sqlalchemy import text  # noqa: PLC0415  an optional dependency

        values = {f"p{number}": value for number, value in enumerate(args, 1)}
        result = await self.connection.execute(text(sql), values)
        # `returns_rows` stands on CursorResult; a textual statement always gives one
        return [tuple(row) for row in result] if getattr(result, "returns_rows", False) else []

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement and return its rows."""
        return await self.execute(placeholders(sql, ":p"), *args)


class SqlAlchemy:
    """A database behind an AsyncEngine. Sessions of `session` (an async_sessionmaker) if given."""

    def __init__(
        self, engine: AsyncEngine, session: Callable[[], AsyncSession] | None = None
    ) -> None:
        try:
            from sqlalchemy import event  # noqa: PLC0415
            from sqlalchemy.exc import DBAPIError, TimeoutError  # noqa: A004, PLC0415
            from sqlalchemy.ext.asyncio import async_sessionmaker  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtra("sqlalchemy", "sqlalchemy") from error
        self.engine = engine
        self.dialect: Dialect = dialect_of(engine.dialect)
        self._session = session or async_sessionmaker(engine, expire_on_commit=False)
        self._failed = DBAPIError
        if self.dialect == "postgres":
            event.listen(engine.sync_engine, "handle_error", _note)
        self._connecting = (DBAPIError, TimeoutError, OSError)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlAlchemyTransaction]:
        """Open a session and a transaction in it; `connection` is the AsyncSession."""
        async with self._session() as session:
            try:
                async with asyncio.timeout(_left()):
                    connection = await session.connection()
                if self.dialect == "sqlite":
                    await _begin_immediate(connection)
                else:
                    await connection.run_sync(_forget)
            except self._connecting as error:
                raise DatabaseUnavailable(
                    f"no transaction could begin: {error}", cause=error
                ) from error
            transaction = SqlAlchemyTransaction(session, self.dialect)
            try:
                yield transaction
            except self._failed as error:
                await session.rollback()
                if error.connection_invalidated or _locked(error):
                    raise DatabaseUnavailable(
                        f"the database was lost before the commit: {error.orig}", cause=error
                    ) from error
                raise
            except BaseException:
                await session.rollback()
                raise
            await self._commit(session)
        committed()
        transaction.committed()

    async def alone(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement as a transaction of its own; see `Database.alone`."""
        async with self.transaction() as tx:
            return await tx.run(sql, *args)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reader]:
        """Give a session to read from; on SQLite it does not wait for the writer."""
        async with self._session() as session:
            try:
                async with asyncio.timeout(_left()):
                    await session.connection()
            except self._connecting as error:
                raise DatabaseUnavailable(f"no connection: {error}", cause=error) from error
            try:
                yield SqlAlchemyTransaction(session, self.dialect)
            except self._failed as error:
                if error.connection_invalidated or _locked(error):
                    raise DatabaseUnavailable(
                        f"the database was lost: {error.orig}", cause=error
                    ) from error
                raise

    async def _commit(self, session: AsyncSession) -> None:
        """Flush, which can still fail safely; then commit, which cannot be recalled once sent."""
        try:
            await session.flush()
            await self._check(session)
        except self._failed as error:
            await session.rollback()
            if error.connection_invalidated or _locked(error):
                raise DatabaseUnavailable(
                    f"the database was lost before the commit: {error.orig}", cause=error
                ) from error
            raise
        ending = asyncio.ensure_future(session.commit())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            settling = asyncio.ensure_future(_settle(ending))
            while not settling.done():
                # cancelled once more: a session cannot be closed in the middle of its commit
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(settling)
            raise
        except self._failed as error:
            if error.connection_invalidated:
                raise Unknown(
                    f"the connection was lost during the commit: {error.orig}",
                    reason=Reason.RESET,
                    cause=error,
                ) from error
            if _locked(error):
                raise DatabaseUnavailable(f"not committed: {error.orig}", cause=error) from error
            raise
        except OSError as error:
            raise Unknown(
                f"the connection was lost during the commit: {error}",
                reason=Reason.RESET,
                cause=error,
            ) from error

    async def _check(self, session: AsyncSession) -> None:
        """Refuse to commit what a failed statement has aborted: see `TransactionAborted`."""
        connection = await session.connection()
        if self.dialect == "postgres" and await connection.run_sync(_forget):
            from sqlalchemy import text  # noqa: PLC0415  the session exists, so it is installed

            try:
                await session.execute(text("SELECT 1"))
            except self._failed as error:
                if error.connection_invalidated:
                    raise
                await session.rollback()
                raise TransactionAborted from error

    async def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring the library's tables of `component` up to date; see `Database.migrate`."""
        async with self.transaction() as tx:
            await schema.migrate(tx, component, steps)

    async def close(self) -> None:
        """Do nothing: the engine is the team's, who made it."""


def _note(context: ExceptionContext) -> None:
    """Note on its connection that a statement has failed."""
    if context.connection is not None and not context.connection.closed:
        context.connection.info[_FAILED] = True


def _forget(connection: Connection) -> bool:
    """Forget whether a statement has failed on a connection, and tell."""
    return bool(connection.info.pop(_FAILED, False))


async def _begin_immediate(connection: AsyncConnection) -> None:
    """Take SQLite's write lock now, unless the team's engine has begun a transaction already.

    The driver would begin at the first write, which fails if another process has written since
    this one read, and would run DDL outside of the transaction.
    """
    raw = await connection.get_raw_connection()
    # aiosqlite's connection; its type is no part of SQLAlchemy's interface
    driver: Any = raw.driver_connection
    if driver.in_transaction:
        return
    left = _left()
    if left is None:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    busy: int = (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar_one()
    await connection.exec_driver_sql(f"PRAGMA busy_timeout = {min(busy, int(left * 1000))}")
    try:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        await connection.exec_driver_sql(f"PRAGMA busy_timeout = {busy}")


def _left() -> float | None:
    """Return how many seconds the work in progress may wait; None: as long as the engine does."""
    left = patience(inf, monotonic())
    return None if left == inf else left


async def _settle(ending: asyncio.Future[None]) -> None:
    """Wait for a commit's answer, and end the connection if there is none.

    A commit that is cancelled closes its connection, which the pool forgets. The drivers say so to
    the server, and wait for it: one that is silent is left at the second time.
    """
    await asyncio.wait([ending], timeout=_ANSWER)
    for seconds in _ENDED:
        if not ending.done():
            ending.cancel()
            await asyncio.wait([ending], timeout=seconds)
    if ending.done() and not ending.cancelled():
        ending.exception()


def _locked(error: DBAPIError) -> bool:
    """Tell whether others, not the statement, were the cause: nothing of it stays then."""
    return "database is locked" in str(error) or getattr(error.orig, "sqlstate", "") in _OTHERS
