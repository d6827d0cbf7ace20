"""Publishes that wait at the same time share one commit of the log.

A commit is all or nothing, and so one record that is refused would fail everybody's. Whose it is
shows when the calls are tried again in halves, in their order: that call is refused, and the others
are done. What may pass is given to all who come after as well: a broker that is away, or does not
say whether it has what it was given. Whoever repeats is then overtaken by nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

from switchgear.events.brokers.port import BrokerUnavailable, Record, RecordTooLarge
from switchgear.model.outcome import Unavailable, Unknown

__all__ = ["FRAME", "Batching", "check_size", "size_of"]

FRAME: Final = 4
"""Bytes that are counted beside a header's name and value."""

_ENCODED: Final = 4
"""Bytes that a character has at most, in UTF-8."""
_GROUP: Final = 2_000
_Calls: TypeAlias = Sequence[tuple[Sequence[Record], asyncio.Future[None]]]


class Batching:
    """Calls `append` with the records of whoever waits; one call runs at a time.

    `append` does all or nothing, unless it raises `Unknown`.
    """

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
            size = 0
            while self._pending and size < _GROUP:
                batch.append(self._pending.pop(0))
                size += len(batch[-1][0])
            await self._serve(batch)
        self._publishing = None

    async def _serve(self, batch: _Calls) -> None:
        """Append for all of `batch`, and tell each call how it ended."""
        waiting = [batch]
        while waiting:
            calls = waiting.pop(0)
            try:
                await self._append([record for records, _ in calls for record in records])
            except (Unavailable, Unknown) as error:
                _end(calls, error)
                first = BrokerUnavailable(f"not tried, after {error.what}", cause=error)
                for rest in waiting:
                    _end(rest, first)
                return
            except Exception as error:  # noqa: BLE001  whoever asked for it gets it
                if len(calls) == 1:
                    _end(calls, error)
                else:
                    middle = len(calls) // 2
                    waiting[:0] = [calls[:middle], calls[middle:]]
            else:
                _end(calls, None)


def _end(calls: _Calls, error: Exception | None) -> None:
    for _, done in calls:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def check_size(records: Iterable[Record], limit: int) -> int:
    """Raise `RecordTooLarge` if the headers and value of a record have more than `limit` bytes.

    Returns how many bytes one of the records has at most, with its key and with `FRAME` for each
    header. Characters are counted for that: to encode them takes three times as long.
    """
    largest = 0
    for record in records:
        characters = len(record.key or "")
        for name, value in record.headers.items():
            characters += len(name) + len(value)
        most = len(record.value) + FRAME * len(record.headers) + _ENCODED * characters
        if most > limit:
            size = size_of(record)
            if size > limit:
                raise RecordTooLarge(record.topic, size, limit)
        largest = max(largest, most)
    return largest


def size_of(record: Record) -> int:
    """Return how many bytes the headers and the value of a record have."""
    headers = record.headers.items()
    return len(record.value) + sum(len(one.encode()) + len(two.encode()) for one, two in headers)
