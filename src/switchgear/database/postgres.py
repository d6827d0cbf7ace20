"""PostgreSQL through an asyncpg pool that the team opened."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from switchgear.database import schema
from switchgear.database.port import (
    Callbacks,
    DatabaseUnavailable,
    Dialect,
    Row,
    Value,
    committed,
    placeholders,
)
from switchgear.errors import MissingExtra
from switchgear.model.context import patience
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["Postgres", "PostgresTransaction"]


def _gone() -> tuple[type[BaseException], ...]:
    """Return the errors that mean that nothing of an open transaction stays."""
    try:
        import asyncpg  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise MissingExtra("asyncpg", "postgres") from error
    return (
        OSError,
        TimeoutError,
        asyncpg.InterfaceError,
        # what asyncpg makes of a connection that the server ended between two statements
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.AdminShutdownError,
        asyncpg.CrashShutdownError,
        asyncpg.LockNotAvailableError,
        asyncpg.DeadlockDetectedError,
        asyncpg.SerializationError,
        asyncpg.TooManyConnectionsError,
    )


class PostgresTransaction(Callbacks):
    """An open transaction on an asyncpg connection; the owner begins and ends it."""

    dialect: Dialect = "postgres"

    def __init__(self, connection: asyncpg.Connection | PoolConnectionProxy) -> None:
        self.connection = connection
        super().__init__()

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement with `$1` placeholders and return its rows."""
        return [tuple(record) for record in await self.connection.fetch(sql, *args)]

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement and return its rows."""
        return await self.execute(placeholders(sql, "$"), *args)


class Postgres:
    """PostgreSQL through `pool`.

    `acquire` is how many seconds to wait for a free connection; less, if the work in progress has
    less (`patience`).
    """

    dialect: Dialect = "postgres"

    def __init__(self, pool: asyncpg.Pool, *, acquire: float = 5.0) -> None:
        self.pool = pool
        self._acquire = acquire
        self.errors = _gone()
        """What the driver raises when the server is away, or turned a statement away unrun."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        """Open a transaction on a connection of the pool."""
        try:
            left = patience(self._acquire, monotonic())
            connection = await self.pool.acquire(timeout=left)
        except self.errors as error:
            raise DatabaseUnavailable(f"no database connection: {error}", cause=error) from error
        try:
            try:
                outer = connection.transaction()
                await outer.start()
            except self.errors as error:
                raise DatabaseUnavailable(
                    f"no transaction could begin: {error}", cause=error
                ) from error
            transaction = PostgresTransaction(connection)
            try:
                yield transaction
            except self.errors as error:
                await self._abandon(connection, outer)
                raise DatabaseUnavailable(
                    f"the database was lost before the commit: {error}", cause=error
                ) from error
            except BaseException:
                await self._abandon(connection, outer)
                raise
            await self._commit(outer)
            committed()
            transaction.committed()
        finally:
            # of a lost connection the pool may know already, and then takes it for an error
            with contextlib.suppress(*self.errors):
                await self.pool.release(connection)

    async def _abandon(
        self, connection: PoolConnectionProxy, outer: asyncpg.transaction.Transaction
    ) -> None:
        """Roll back; where that cannot be said any more, the lost connection does it."""
        try:
            await outer.rollback()
        except self.errors:
            # the pool may have taken a lost connection back already
            with contextlib.suppress(*self.errors):
                connection.terminate()

    async def _commit(self, outer: asyncpg.transaction.Transaction) -> None:
        """Commit, and wait for the answer even if cancelled: a COMMIT sent cannot be recalled."""
        import asyncpg  # noqa: PLC0415  the pool exists, so it is installed

        ending = asyncio.ensure_future(outer.commit())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending])
            if not ending.cancelled():
                ending.exception()
            raise
        except (asyncpg.SerializationError, asyncpg.IntegrityConstraintViolationError):
            raise  # the server answered: it was not committed
        except self.errors as error:
            raise Unknown(
                f"the connection was lost during the commit: {error}",
                reason=Reason.RESET,
                cause=error,
            ) from error

    async def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring the library's tables of `component` up to date; see `Database.migrate`."""
        async with self.transaction() as tx:
            await schema.migrate(tx, component, steps)

    async def close(self) -> None:
        """Do nothing: the pool is the team's, who opened it."""
