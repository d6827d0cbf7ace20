"""PostgreSQL through an asyncpg pool that the team opened.

A statement is a way to the server and back, and under load it is these ways that a service's
processor time goes to. So they are saved where nothing is lost by it:

- A statement `alone` is a transaction by itself: no BEGIN and no COMMIT.
- asyncpg asks the server to reset a session that goes back to the pool. After a team's transaction
  that is done, but nobody waits for it. The library's own statements leave nothing behind in a
  session: its connection is handed to the next of them, for a few milliseconds in all, and then
  goes back to the pool. A team's transaction always asks the pool, whose `setup` may prepare it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from switchgear.database import schema
from switchgear.database.port import (
    Callbacks,
    DatabaseUnavailable,
    Dialect,
    Row,
    TransactionAborted,
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

T = TypeVar("T")
_KEPT: Final = 0.01
"""Seconds for which a connection serves our statements, one after the other: others wait for it."""
_ANSWER: Final = 5.0
"""Seconds for which a commit's answer is waited for by who was cancelled."""


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

    async def script(self, sql: str) -> None:
        """Run statements without arguments and rows, in one way there and back."""
        await self.connection.execute(sql)


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
        self._kept: tuple[PoolConnectionProxy, float] | None = None
        """What our next statement may have, and until when."""
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        """Open a transaction on a connection of the pool."""
        self._let_go()
        connection = await self._acquired()
        begun: asyncpg.transaction.Transaction | None = None
        """What the connection has to be rid of before the pool gets it back."""
        try:
            outer = connection.transaction()
            try:
                await outer.start()
            except self.errors as error:
                raise DatabaseUnavailable(
                    f"no transaction could begin: {error}", cause=error
                ) from error
            except BaseException:
                begun = outer
                raise
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
            await self._commit(connection, self._end(connection, outer))
            committed()
            transaction.committed()
        finally:
            self._return(connection, begun)

    async def alone(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement as a transaction of its own; see `Database.alone`."""
        connection, until = await self._take()
        if self._lost(connection):
            self._return(connection)
            raise DatabaseUnavailable("the connection was lost before the statement.")
        try:
            fetching = connection.fetch(placeholders(sql, "$"), *args)
            records = await self._commit(connection, fetching)
        except BaseException:
            self._return(connection)
            raise
        self._keep(connection, until)
        committed()
        return [tuple(record) for record in records]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[PostgresTransaction]:
        """Give a connection to read from, without a transaction around its statements."""
        connection, until = await self._take()
        try:
            yield PostgresTransaction(connection)
        except self.errors as error:
            self._return(connection)
            raise DatabaseUnavailable(f"the database was lost: {error}", cause=error) from error
        except BaseException:
            self._return(connection)
            raise
        self._keep(connection, until)

    async def _take(self) -> tuple[PoolConnectionProxy, float]:
        """Return the connection that was kept, or one of the pool, and until when to keep it."""
        kept, self._kept = self._kept, None
        if kept is not None:
            if self._timer is not None:
                self._timer.cancel()
            if not self._lost(kept[0]):
                return kept
            self._return(kept[0])
        connection = await self._acquired()
        return connection, monotonic() + _KEPT

    async def _acquired(self) -> PoolConnectionProxy:
        try:
            return await self.pool.acquire(timeout=patience(self._acquire, monotonic()))
        except self.errors as error:
            raise DatabaseUnavailable(f"no database connection: {error}", cause=error) from error

    def _keep(self, connection: PoolConnectionProxy, until: float) -> None:
        """Keep a connection for our next statement, if its time is not over."""
        left = until - monotonic()
        if left <= 0 or self._kept is not None or self._lost(connection):
            self._return(connection)
            return
        self._kept = connection, until
        self._timer = asyncio.get_running_loop().call_later(left, self._let_go)

    def _lost(self, connection: PoolConnectionProxy) -> bool:
        """Tell whether a connection has ended; the pool may have taken it back for that."""
        try:
            return connection.is_closed()
        except self.errors:
            return True

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._return(kept[0])

    def _return(
        self,
        connection: PoolConnectionProxy,
        begun: asyncpg.transaction.Transaction | None = None,
    ) -> None:
        """Give a connection back to the pool, which resets it; nobody waits for that.

        Of `begun` nobody knows whether its BEGIN was called off in time: it is rolled back before.
        """
        task = asyncio.get_running_loop().create_task(self._release(connection, begun))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _release(
        self,
        connection: PoolConnectionProxy,
        begun: asyncpg.transaction.Transaction | None,
    ) -> None:
        # of a lost connection the pool may know already, and then takes it for an error
        with contextlib.suppress(*self.errors):
            if begun is not None:
                _forget(begun)
                await self._roll_back(connection, connection.execute("ROLLBACK"))
            await self.pool.release(connection)

    async def _abandon(
        self, connection: PoolConnectionProxy, outer: asyncpg.transaction.Transaction
    ) -> None:
        """Roll back; where that cannot be said any more, the lost connection does it."""
        try:
            await self._roll_back(connection, outer.rollback())
        except self.errors:
            # the pool may have taken a lost connection back already
            with contextlib.suppress(*self.errors):
                connection.terminate()

    async def _roll_back(
        self, connection: PoolConnectionProxy, rolling: Coroutine[Any, Any, object]
    ) -> None:
        """Wait for a rollback, but not for a server that says nothing any more."""
        ending = asyncio.ensure_future(rolling)
        try:
            await self._answered(connection, ending)
        finally:
            if not ending.done():  # cancelled once more
                ending.cancel()
        ending.result()

    async def _answered(self, connection: PoolConnectionProxy, ending: asyncio.Future[Any]) -> None:
        """Wait for an answer, and end the connection if there is none."""
        await asyncio.wait([ending], timeout=_ANSWER)
        if not ending.done():
            with contextlib.suppress(*self.errors):
                connection.terminate()
            await asyncio.wait([ending], timeout=_ANSWER)

    async def _end(
        self, connection: PoolConnectionProxy, outer: asyncpg.transaction.Transaction
    ) -> None:
        """Commit, and look at what the server answers; asyncpg's own `commit` does not."""
        try:
            answer = await connection.execute("COMMIT")
        finally:
            _forget(outer)
        if answer != "COMMIT":
            raise TransactionAborted

    async def _commit(
        self, connection: PoolConnectionProxy, committing: Coroutine[Any, Any, T]
    ) -> T:
        """Wait for a commit's answer, even if cancelled: what was sent cannot be recalled."""
        import asyncpg  # noqa: PLC0415  the pool exists, so it is installed

        ending = asyncio.ensure_future(committing)
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            await self._answered(connection, ending)
            if ending.done() and not ending.cancelled():
                ending.exception()
            raise
        except (
            asyncpg.SerializationError,
            asyncpg.LockNotAvailableError,
            asyncpg.DeadlockDetectedError,
        ) as error:  # the server answered
            raise DatabaseUnavailable(f"not committed: {error}", cause=error) from error
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


def _forget(transaction: asyncpg.transaction.Transaction) -> None:
    """Do the rest of what asyncpg's `commit` and `rollback` do; its stubs know nothing of it."""
    transaction._connection._top_xact = None  # type: ignore[attr-defined]  # noqa: SLF001
