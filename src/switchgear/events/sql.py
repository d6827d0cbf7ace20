"""Small pieces of SQL that the tables of this package share."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from switchgear.database.port import Dialect, Transaction, Value, placeholders
from switchgear.database.postgres import PostgresTransaction
from switchgear.database.sqlite import SqliteTransaction

__all__ = ["Many", "execute_many", "marks", "now", "write_many"]

_NOW: Final[dict[Dialect, str]] = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgres": "(extract(epoch FROM clock_timestamp())::float8)",
}


@runtime_checkable
class Many(Protocol):
    """A transaction that has a quick way for one statement with many rows of arguments."""

    async def many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run one portable statement once per row."""


def execute_many(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Value]]) -> None:
    """Run one statement once per row, and close the cursor in the thread that runs it.

    A cursor that another thread lets go of resets its statement there, in the middle of whatever
    the owner of the connection does with it by then.
    """
    connection.executemany(sql, rows).close()


def now(dialect: Dialect) -> str:
    """Return the expression for the database's clock, in Unix seconds."""
    return _NOW[dialect]


def marks(count: int) -> str:
    """Return `count` placeholders, for an IN list."""
    return ", ".join("?" * count)


async def write_many(tx: Transaction, sql: str, rows: Sequence[Sequence[Value]]) -> None:
    """Run one portable statement once per row, in as few round trips as the driver allows."""
    if isinstance(tx, Many):
        await tx.many(sql, rows)
    elif isinstance(tx, SqliteTransaction) and len(rows) > 1:
        await tx.step(lambda connection: execute_many(connection, sql, rows))
    elif isinstance(tx, PostgresTransaction) and len(rows) > 1:
        await tx.connection.executemany(placeholders(sql, "$"), rows)
    else:
        for row in rows:
            await tx.run(sql, *row)
