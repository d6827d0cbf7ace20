"""The person on call: sees what waits for them, and moves it, as `switchgear saga` does.

Everything goes through the functions behind `switchgear saga list`, `show`, `retry` and the others,
on the database of the orders service, which goes on running meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from switchgear.database.sqlite import Sqlite
from switchgear.drills.books import rows
from switchgear.drills.stand import System
from switchgear.saga import runbook
from switchgear.saga.runbook import Evidence, WorkItem

__all__ = ["Operator"]

_NAME: Final = "drill"


class Operator:
    """Operates the sagas of one service of a system."""

    def __init__(self, system: System, service: str = "orders") -> None:
        self._file = system.folder / f"{service}.db"

    async def items(self) -> list[WorkItem]:
        """Return what waits for a person."""
        async with self._database() as database:
            return await runbook.list_items(database)

    async def show(self, item: WorkItem) -> Evidence:
        """Return what is recorded about the saga of a work item."""
        async with self._database() as database:
            return await runbook.show(database, item.id)

    async def retry(self, item: WorkItem, reason: str) -> None:
        """Have what gave up attempted again."""
        async with self._database() as database:
            await runbook.retry(database, item.id, _NAME, reason)

    async def resolve(self, item: WorkItem, reason: str) -> None:
        """Say that what gave up, or what cannot be undone, was dealt with by hand."""
        async with self._database() as database:
            await runbook.resolve(database, item.id, _NAME, reason)

    async def skip(self, item: WorkItem, reason: str) -> None:
        """Leave it as it is."""
        async with self._database() as database:
            await runbook.skip(database, item.id, _NAME, reason)

    async def refute(self, saga_id: str, step: str, evidence: str) -> None:
        """Say that a step which is recorded as done does not hold."""
        async with self._database() as database:
            await runbook.refute(database, saga_id, step, _NAME, evidence)

    async def status(self, saga_id: str) -> str:
        """Return where a saga stands."""
        async with self._database() as database:
            return (await runbook.show(database, saga_id)).status

    def states(self) -> Mapping[str, int]:
        """Return how many sagas are in which state."""
        return dict(
            rows(self._file, "SELECT status, count(*) FROM switchgear_sagas GROUP BY status")
        )

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[Sqlite]:
        database = Sqlite(self._file)
        try:
            yield database
        finally:
            await database.close()
