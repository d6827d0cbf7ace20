"""Sagas that are to start on Temporal: rows of the service's own database, until they have.

A row commits with the transaction that starts the saga, and is handed on afterwards, by any
process of the service, as often as it takes: a workflow of the same id starts once. So a handler
that starts a saga with its own effects keeps its guarantee, although the saga runs elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from switchgear.saga.stores.port import Unit

__all__ = ["COMPONENT", "STEPS", "Start", "drop", "find", "insert", "pending", "refuse"]

COMPONENT: Final = "saga_starts"
STEPS: Final = (
    """
    CREATE TABLE switchgear_saga_starts (
        id TEXT PRIMARY KEY,
        queue TEXT NOT NULL,
        given {blob} NOT NULL,
        at {real} NOT NULL,
        refused TEXT
    );
    """,
)


@dataclass(frozen=True, slots=True)
class Start:
    """A saga that is to start: its id, its task queue, and what its workflow is given."""

    id: str
    queue: str
    given: bytes
    refused: str | None = None
    """Why it never will: another workflow has its id."""


def insert(start: Start, at: float) -> Unit[Start | None]:
    """Insert a row; return the one that has its id already, if there is one.

    One that was refused has no id any more: who started it was told, or will be.
    """
    sql = (
        "INSERT INTO switchgear_saga_starts (id, queue, given, at) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET queue = excluded.queue, given = excluded.given, "
        "at = excluded.at, refused = NULL WHERE switchgear_saga_starts.refused IS NOT NULL "
        "RETURNING id"
    )
    inserted = yield sql, (start.id, start.queue, start.given, at)
    if inserted:
        return None
    return (yield from find(start.id))


def find(saga_id: str) -> Unit[Start | None]:
    """Return the row of a saga that has not started."""
    sql = "SELECT id, queue, given, refused FROM switchgear_saga_starts WHERE id = ?"
    rows = yield sql, (saga_id,)
    return Start(*rows[0]) if rows else None


def pending(limit: int) -> Unit[list[Start]]:
    """Return the sagas that are to start, the longest waiting first."""
    sql = (
        "SELECT id, queue, given, refused FROM switchgear_saga_starts WHERE refused IS NULL "
        "ORDER BY at LIMIT ?"
    )
    rows = yield sql, (limit,)
    return [Start(*row) for row in rows]


def drop(start: Start) -> Unit[None]:
    """Remove the row of a saga that has started, unless another start has taken its place."""
    sql = "DELETE FROM switchgear_saga_starts WHERE id = ? AND given = ?"
    yield sql, (start.id, start.given)


def refuse(start: Start, why: str) -> Unit[None]:
    """Note that a saga never will start, unless another start has taken its place."""
    sql = "UPDATE switchgear_saga_starts SET refused = ? WHERE id = ? AND given = ?"
    yield sql, (why, start.id, start.given)
