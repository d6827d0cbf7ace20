"""The saga store on SQLite: a whole unit at a time in the writer thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from switchgear.database.port import Dialect, Row, Value
from switchgear.database.sqlite import Sqlite
from switchgear.saga.stores.group import Group
from switchgear.saga.stores.port import Unit, Write, drive_sync
from switchgear.saga.stores.units import Units

__all__ = ["SqliteStore"]

T = TypeVar("T")


class SqliteStore:
    """Hands units whole to the writer thread: one hop, whatever the number of statements.

    Lines that wait together travel together, which saves a hop for each, and `Sqlite.write` lets
    them share their fsync with whatever else the service writes.
    """

    dialect: Dialect = "sqlite"

    def __init__(self, database: Sqlite) -> None:
        self._database = database
        self._units = Units("sqlite")
        self._group: Group[Write, bool] = Group(self._record)

    async def write(self, unit: Unit[T]) -> T:
        """Run `unit` as one transaction; return once it is durable."""
        return await self._database.write(lambda connection: drive_sync(_on(connection), unit))

    async def apart(self, unit: Unit[T]) -> T:
        """Do what `write` does: whole is cheaper than apart here."""
        return await self.write(unit)

    async def read(self, unit: Unit[T]) -> T:
        """Run `unit`, which only reads, without waiting for the writer."""
        return await self._database.read(lambda connection: drive_sync(_on(connection), unit))

    async def record(self, write: Write) -> bool:
        """Write one line. False: the lease has been lost."""
        return await self._group.put(write)

    async def _record(self, writes: list[Write]) -> list[bool]:
        return await self.write(self._units.record(writes))


def _on(connection: sqlite3.Connection) -> Callable[[str, tuple[Value, ...]], list[Row]]:
    return lambda sql, args: connection.execute(sql, args).fetchall()
