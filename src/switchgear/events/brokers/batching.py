"""Publishes that wait at the same time share one commit of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from switchgear.events.brokers.port import Record, RecordTooLarge

__all__ = ["Batching", "check_size"]

_GROUP: Final = 2_000


class Batching:
    """Calls `append` with the records of whoever waits; one call runs at a time."""

    def __init__(self, append: Callable[[Sequence[Record]], Awaitable[None]]) -> None:
        self._append = append
        self._pending: list[tuple[Sequence[Record], asyncio.Future[None]]] = []
        self._publishing: asyncio.Task[None] | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        """Append `records` in order; return, or raise what `append` raised, once it is done."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((records, done))
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._work(), name="publish")
        await done

    async def close(self) -> None:
        """Wait until everything that was asked for is done."""
        if self._publishing is not None:
            await self._publishing

    async def _work(self) -> None:
        while self._pending:
            batch: list[tuple[Sequence[Record], asyncio.Future[None]]] = []
            records: list[Record] = []
            while self._pending and len(records) < _GROUP:
                some, done = self._pending.pop(0)
                batch.append((some, done))
                records += some
            try:
                await self._append(records)
            except Exception as error:  # noqa: BLE001  each publisher gets it
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in batch:
                if not done.done():
                    done.set_result(None)
        self._publishing = None


def check_size(records: Sequence[Record], limit: int) -> None:
    """Raise `RecordTooLarge` if the headers and value of a record have more than `limit` bytes."""
    for record in records:
        size = len(record.value)
        for name, value in record.headers.items():
            size += len(name.encode()) + len(value.encode())
        if size > limit:
            raise RecordTooLarge(record.topic, size, limit)
