"""The saga store on any database of the port, a statement at a time."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from switchgear.database.port import Database, DatabaseUnavailable, Dialect, Row, Value
from switchgear.model.outcome import Reason, Unknown
from switchgear.saga.stores.batch import is_whole
from switchgear.saga.stores.group import Group
from switchgear.saga.stores.port import Unit, Write, drive
from switchgear.saga.stores.units import Units

__all__ = ["PortableStore"]

T = TypeVar("T")


class PortableStore:
    """Runs units in transactions of their own; lines that wait together share one."""

    def __init__(self, database: Database) -> None:
        self.dialect: Dialect = database.dialect
        self._database = database
        self._units = Units(database.dialect)
        self._group: Group[Write, bool] = Group(self._record)
        # one writing transaction at a time: two that change several rows each can deadlock
        self._lock = asyncio.Lock()

    async def write(self, unit: Unit[T]) -> T:
        """Run `unit` as one transaction; return once it is durable."""
        async with self._lock, self._database.transaction() as tx:
            return await drive(tx.run, unit)

    async def apart(self, unit: Unit[T]) -> T:
        """Run `unit`, whose statements need not stand or fall together, each by itself.

        Raises `Unknown` where one of them is committed, and a later one could not be run.
        """
        if self.dialect != "postgres":
            return await self.write(unit)
        committed = False

        async def run(sql: str, *args: Value) -> list[Row]:
            nonlocal committed
            try:
                rows = await self._database.alone(sql, *args)
            except DatabaseUnavailable as error:
                if committed:
                    raise Unknown(
                        f"a part is committed: {error.what}", reason=Reason.RESET, cause=error
                    ) from error
                raise
            committed = True
            return rows

        async with self._lock:
            return await drive(run, unit)

    async def read(self, unit: Unit[T]) -> T:
        """Run `unit`, which only reads."""
        async with self._database.reading() as reader:
            return await drive(reader.run, unit)

    async def record(self, write: Write) -> bool:
        """Write one line. False: the lease has been lost."""
        return await self._group.put(write)

    async def _record(self, writes: list[Write]) -> list[bool]:
        # a line and the turn that it is are one statement there, where no saga has two of them
        single = is_whole(writes) and len(writes) == len({write.id for write in writes})
        write = self.apart if single else self.write
        return await write(self._units.record(writes))
