"""The inbox: an event takes effect once, however often it arrives.

A row (consumer, event) is written in the transaction of the handler's own writes: either both are
committed or neither, and a second transaction for the same event meets the row and does nothing.
The consumer is service and subscription, so each reacts once. The event is its source and id,
which CloudEvents makes unique together.

Rows are kept for `KEEP`, longer than a broker keeps the events themselves. Their time is that of
the database's clock: one host whose own is wrong would otherwise delete what all the others need.
On SQLite that is the clock of the machine itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from switchgear.database.port import Database, Reader, Transaction
from switchgear.events.sql import marks, now

__all__ = ["KEEP", "STEPS", "Inbox"]

KEEP: Final = 8 * 86_400.0
"""Seconds; a day more than the embedded broker and Kafka keep events by default."""

STEPS: Final = (
    """
    CREATE TABLE switchgear_inbox (
        consumer TEXT NOT NULL, event TEXT NOT NULL, at {real} NOT NULL,
        PRIMARY KEY (consumer, event));
    CREATE INDEX switchgear_inbox_at ON switchgear_inbox (at);
    """,
)

# PostgreSQL takes any number as one array: each statement is a way there and back
_CLAIM: Final = (
    "INSERT INTO switchgear_inbox (consumer, event, at) "  # noqa: S608  a constant
    f"SELECT ?, event, {now('postgres')} FROM unnest(CAST(? AS TEXT[])) AS event "
    "ON CONFLICT (consumer, event) DO NOTHING RETURNING event"
)
_SEEN: Final = (
    "SELECT event FROM switchgear_inbox WHERE consumer = ? AND event = ANY(CAST(? AS TEXT[]))"
)
_CHUNKS: Final = (64, 8, 1)
_STEP: Final = 500


class Inbox:
    """The inbox of one consumer, such as `orders.mark-paid`."""

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer

    async def claim(self, tx: Transaction, events: Sequence[str]) -> set[str]:
        """Write the rows of `events` and return those that had none: the ones to be handled."""
        fresh: set[str] = set()
        if tx.dialect == "postgres" and len(events) > 1:
            rows = await tx.run(_CLAIM, self.consumer, list(events))
            return {row[0] for row in rows}
        for chunk in _chunks(events):
            values = ", ".join([f"(?, ?, {now(tx.dialect)})"] * len(chunk))
            args = [arg for event in chunk for arg in (self.consumer, event)]
            rows = await tx.run(
                f"INSERT INTO switchgear_inbox (consumer, event, at) VALUES {values} "  # noqa: S608  marks
                "ON CONFLICT (consumer, event) DO NOTHING RETURNING event",
                *args,
            )
            fresh.update(row[0] for row in rows)
        return fresh

    async def disclaim(self, tx: Transaction, event: str) -> None:
        """Take a claim of this transaction back: the event was not handled after all."""
        await tx.run(
            "DELETE FROM switchgear_inbox WHERE consumer = ? AND event = ?", self.consumer, event
        )

    async def seen(self, tx: Reader, events: Sequence[str]) -> set[str]:
        """Return those of `events` that have been handled."""
        found: set[str] = set()
        if tx.dialect == "postgres" and len(events) > 1:
            rows = await tx.run(_SEEN, self.consumer, list(events))
            return {row[0] for row in rows}
        for chunk in _chunks(events):
            rows = await tx.run(
                "SELECT event FROM switchgear_inbox "  # noqa: S608  marks
                f"WHERE consumer = ? AND event IN ({marks(len(chunk))})",
                self.consumer,
                *chunk,
            )
            found.update(row[0] for row in rows)
        return found

    async def look_up(self, database: Database, events: Sequence[str]) -> set[str]:
        """Do what `seen` does outside of any transaction."""
        async with database.reading() as reader:
            return await self.seen(reader, events)

    @staticmethod
    async def clean(database: Database, *, keep: float = KEEP) -> int:
        """Delete rows older than `keep` seconds, of all consumers, in one small step.

        Returns how many rows were deleted; call it again while that is not 0.
        """
        # the clock is a query of its own, which is made once: else no index would be used
        rows = await database.alone(
            "DELETE FROM switchgear_inbox WHERE (consumer, event) IN (SELECT consumer, event "  # noqa: S608  a constant
            f"FROM switchgear_inbox WHERE at < (SELECT {now(database.dialect)} - ?) "
            "ORDER BY at LIMIT ?) RETURNING event",
            keep,
            _STEP,
        )
        return len(rows)


def _chunks(events: Sequence[str]) -> list[Sequence[str]]:
    """Cut into few different lengths, so that the statements are few and stay prepared."""
    found: list[Sequence[str]] = []
    start = 0
    for size in _CHUNKS:
        while len(events) - start >= size:
            found.append(events[start : start + size])
            start += size
    return found
