"""Join a transaction that the team opened itself, and find the database behind a resource.

The team begins and ends the transaction; the library only adds statements to it. What has to
happen after its commit (waking the relay) is left to polling where the driver has no hook.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from switchgear.database.port import (
    Callbacks,
    Database,
    Dialect,
    Row,
    Transaction,
    Value,
    placeholders,
)
from switchgear.errors import DatabaseError

__all__ = ["SyncTransaction", "database_of", "is_database", "joined", "joined_sync"]


class SyncTransaction(Protocol):
    """A transaction that a team opened with a driver that does not await."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""
        ...

    def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement, with `?` for its arguments, and return its rows."""
        ...


@runtime_checkable
class _IsTransaction(Protocol):
    def after_commit(self, callback: Callable[[], None]) -> None: ...
    async def run(self, sql: str, *args: Value) -> list[Row]: ...


@runtime_checkable
class _IsDatabase(Protocol):
    def transaction(self) -> Any: ...
    async def migrate(self, component: str, steps: Any) -> None: ...


class _SqliteConnection:
    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, *args: Value) -> list[Row]:
        return self._connection.execute(sql, args).fetchall()


class _SqlAlchemySession:
    def __init__(self, session: Any, dialect: Dialect) -> None:
        self._session = session
        self.dialect: Dialect = dialect

    def run(self, sql: str, *args: Value) -> list[Row]:
        from sqlalchemy import text  # noqa: PLC0415  the session exists, so it is installed

        values = {f"p{number}": value for number, value in enumerate(args, 1)}
        result = self._session.execute(text(placeholders(sql, ":p")), values)
        return [tuple(row) for row in result] if result.returns_rows else []


class _Drivers:
    """A connection of psycopg or Django, whose placeholders are `%s`."""

    def __init__(self, connection: Any, dialect: Dialect) -> None:
        self._connection = connection
        self.dialect: Dialect = dialect

    def run(self, sql: str, *args: Value) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(placeholders(sql, "%s"), args)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


class _Django(_Drivers):
    def after_commit(self, callback: Callable[[], None]) -> None:
        self._connection.on_commit(callback)


class _Psycopg(Callbacks):
    """psycopg's AsyncConnection; it does not say when it has committed."""

    dialect: Dialect = "postgres"

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self.connection = connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        cursor = await self.connection.execute(sql, args)
        return [tuple(row) for row in await cursor.fetchall()] if cursor.description else []

    async def run(self, sql: str, *args: Value) -> list[Row]:
        return await self.execute(placeholders(sql, "%s"), *args)


class _Aiosqlite(Callbacks):
    """aiosqlite's Connection; it does not say when it has committed."""

    dialect: Dialect = "sqlite"

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self.connection = connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        return [tuple(row) for row in await self.connection.execute_fetchall(sql, args)]

    async def run(self, sql: str, *args: Value) -> list[Row]:
        return await self.execute(sql, *args)


def joined(connection: object) -> Transaction:
    """Return a `Transaction` over one that the team opened and will end.

    Takes an asyncpg, psycopg or aiosqlite connection, an SQLAlchemy AsyncSession or
    AsyncConnection, or a `Transaction` of ours, which is returned as it is. Raises `DatabaseError`
    for anything else, and for a psycopg connection in autocommit mode outside a transaction.
    """
    if isinstance(connection, _IsTransaction):
        # a structural check cannot see the attributes' types
        return connection  # type: ignore[return-value]
    if _instance(connection, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):
        from switchgear.database.sqlalchemy import (  # noqa: PLC0415  optional dependency
            SqlAlchemyTransaction,
            dialect_of,
        )

        session: Any = connection
        bind = session.get_bind() if hasattr(session, "get_bind") else session
        return SqlAlchemyTransaction(session, dialect_of(bind.dialect))
    if _instance(connection, "asyncpg.connection", "Connection") or _instance(
        connection, "asyncpg.pool", "PoolConnectionProxy"
    ):
        from switchgear.database.postgres import PostgresTransaction  # noqa: PLC0415  optional

        driver: Any = connection
        return PostgresTransaction(driver)
    if _instance(connection, "psycopg", "AsyncConnection"):
        return _Psycopg(_in_transaction(connection))
    if _instance(connection, "aiosqlite.core", "Connection"):
        return _Aiosqlite(connection)
    raise _unknown(connection)


def joined_sync(connection: object) -> SyncTransaction | None:
    """Return a `SyncTransaction` over what a team opened with a driver that does not await.

    Takes a sqlite3 or psycopg connection, an SQLAlchemy Session or Connection, and Django's
    `connection` inside `transaction.atomic`. Returns None for anything else. Raises `DatabaseError`
    for Django's and psycopg's in autocommit mode: the statement would be committed alone.
    """
    if isinstance(connection, sqlite3.Connection):
        return _SqliteConnection(connection)
    if _instance(connection, "sqlalchemy.orm", "Session", "scoped_session") or _instance(
        connection, "sqlalchemy.engine", "Connection"
    ):
        from switchgear.database.sqlalchemy import dialect_of  # noqa: PLC0415  optional dependency

        session: Any = connection
        bind = session.get_bind() if hasattr(session, "get_bind") else session
        return _SqlAlchemySession(session, dialect_of(bind.dialect))
    if _instance(connection, "psycopg", "Connection"):
        return _Drivers(_in_transaction(connection), "postgres")
    if _instance(connection, "django.db.backends.base.base", "BaseDatabaseWrapper") or _instance(
        connection, "django.utils.connection", "ConnectionProxy"
    ):
        return _django(connection)
    return None


def is_database(resource: object) -> bool:
    """Tell whether `database_of` finds a database behind `resource`."""
    return (
        isinstance(resource, _IsDatabase)
        or _instance(resource, "asyncpg.pool", "Pool")
        or _instance(resource, "sqlalchemy.ext.asyncio", "AsyncEngine", "async_sessionmaker")
    )


def database_of(resource: object) -> Database:
    """Return the `Database` behind a resource of the team's.

    Takes a `Sqlite`, an asyncpg pool, an AsyncEngine, or an async_sessionmaker that is bound to
    one. Raises `DatabaseError` for anything else.
    """
    if isinstance(resource, _IsDatabase):
        # a structural check cannot see the attributes' types
        return resource  # type: ignore[return-value]
    found: Any = resource
    if _instance(resource, "asyncpg.pool", "Pool"):
        from switchgear.database.postgres import Postgres  # noqa: PLC0415  optional dependency

        return Postgres(found)
    if _instance(resource, "sqlalchemy.ext.asyncio", "AsyncEngine"):
        from switchgear.database.sqlalchemy import SqlAlchemy  # noqa: PLC0415  optional dependency

        return SqlAlchemy(found)
    if _instance(resource, "sqlalchemy.ext.asyncio", "async_sessionmaker"):
        from switchgear.database.sqlalchemy import SqlAlchemy  # noqa: PLC0415  optional dependency

        return SqlAlchemy(found.kw["bind"], found)
    raise _unknown(resource)


def _in_transaction(connection: Any) -> Any:
    """Return psycopg's connection, if what runs on it does not commit by itself."""
    from psycopg.pq import TransactionStatus  # noqa: PLC0415  the connection exists

    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise DatabaseError(
            "the connection is in autocommit mode and outside a transaction.",
            fix="Do it inside `with connection.transaction():`, beside the writes it belongs to.",
        )
    return connection


def _django(connection: Any) -> _Django:
    dialects: Mapping[str, Dialect] = {"postgresql": "postgres", "sqlite": "sqlite"}
    dialect = dialects.get(connection.vendor)
    if dialect is None:
        raise DatabaseError(
            f"Django's database is {connection.vendor}, which is not supported.",
            fix="Use PostgreSQL or SQLite.",
        )
    if not connection.in_atomic_block:
        raise DatabaseError(
            "Django is outside a transaction.",
            fix="Do it inside `transaction.atomic()`, beside the writes it belongs to.",
        )
    return _Django(connection, dialect)


def _instance(value: object, module: str, *names: str) -> bool:
    """Check the type without importing an optional dependency that nobody has imported."""
    loaded = sys.modules.get(module)
    types = tuple(found for name in names if isinstance(found := getattr(loaded, name, None), type))
    return isinstance(value, types)


def _unknown(value: object) -> DatabaseError:
    return DatabaseError(
        f"{type(value).__module__}.{type(value).__qualname__} is not a database that is supported.",
        fix="Use switchgear.Sqlite, asyncpg, psycopg, SQLAlchemy, Django, sqlite3 or aiosqlite.",
    )
