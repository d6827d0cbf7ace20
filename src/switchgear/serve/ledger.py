"""The rows behind keyed commands: one per key, with how its request ended.

A row is claimed (no body yet) and filled in one transaction, so a committed row always has a body.
An expired row that was not swept yet is taken over by the next claim.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from switchgear.database.port import Row, Transaction, Value
from switchgear.model.outcome import Rejected, Status

__all__ = [
    "LOOKUP",
    "RECORD",
    "STEPS",
    "SWEEP",
    "Keyed",
    "Known",
    "Stored",
    "claim",
    "digest",
    "known",
    "record_on",
    "record_values",
    "same",
    "store",
    "store_on",
]

STEPS: Final = [
    """CREATE TABLE switchgear_idempotency (
        id {blob} PRIMARY KEY, operation TEXT NOT NULL, key TEXT NOT NULL,
        fingerprint {blob} NOT NULL, refusal TEXT, body {blob},
        created {real} NOT NULL, expires {real} NOT NULL
    );
    CREATE INDEX switchgear_idempotency_expires ON switchgear_idempotency (expires)""",
]
LOOKUP: Final = (
    "SELECT fingerprint, refusal, body FROM switchgear_idempotency WHERE id = ? AND expires > ?"
)
_INSERT: Final = (
    "INSERT INTO switchgear_idempotency "
    "(id, operation, key, fingerprint, refusal, body, created, expires)"
)
_TAKE_OVER: Final = (
    "ON CONFLICT (id) DO UPDATE SET operation = excluded.operation, key = excluded.key, "
    "fingerprint = excluded.fingerprint, refusal = excluded.refusal, body = excluded.body, "
    "created = excluded.created, expires = excluded.expires "
    "WHERE switchgear_idempotency.expires <= excluded.created RETURNING 1"
)
RECORD: Final = f"{_INSERT} VALUES (?, ?, ?, ?, ?, ?, ?, ?) {_TAKE_OVER}"
# One statement takes the lock and the row. Everybody takes the lock first, so that the insert never
# waits for somebody else's transaction, which may last as long as it likes.
_CLAIM_LOCKED: Final = (
    f"{_INSERT} SELECT CAST(? AS BYTEA), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BYTEA), "
    "CAST(? AS TEXT), CAST(? AS BYTEA), CAST(? AS DOUBLE PRECISION), CAST(? AS DOUBLE PRECISION) "
    f"WHERE pg_try_advisory_xact_lock(CAST(? AS BIGINT)) {_TAKE_OVER}"
)
_STORE: Final = (
    "UPDATE switchgear_idempotency SET refusal = ?, body = ?, created = ?, expires = ? WHERE id = ?"
)
SWEEP: Final = (
    "DELETE FROM switchgear_idempotency WHERE id IN "
    "(SELECT id FROM switchgear_idempotency WHERE expires <= ? ORDER BY expires LIMIT ?) "
    "RETURNING 1"
)


@dataclass(frozen=True, slots=True)
class Keyed:
    """One request of a keyed command."""

    id: bytes
    """Digest of who asks, the operation and the key."""
    operation: str
    key: str
    fingerprint: bytes
    """Digest of the message."""
    retention: float
    """Seconds for which its reply is kept."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How a keyed request ended."""

    body: bytes
    refusal: str | None = None
    """Full name of the refusal that `body` is; None: it is the reply."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a row says."""

    fingerprint: bytes
    stored: Stored


def digest(*parts: str | bytes) -> bytes:
    """Return a digest that no other sequence of parts has."""
    whole = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8))
        whole.update(data)
    return whole.digest()


def known(rows: list[Row]) -> Known | None:
    """Read the answer to `LOOKUP`."""
    if not rows:
        return None
    fingerprint, refusal, body = rows[0]
    return Known(bytes(fingerprint), Stored(bytes(body), refusal))


def same(request: Keyed, found: Known) -> Stored:
    """Return what is stored; raises `Rejected` if it answers another message."""
    if found.fingerprint != request.fingerprint:
        raise Rejected(
            "this idempotency key was used with another message.",
            status=Status.FAILED_PRECONDITION,
        )
    return found.stored


def record_values(request: Keyed, stored: Stored | None, now: float) -> tuple[Value, ...]:
    """Return the values of a row: claimed, or with how the request ended. `now` is unix time."""
    body, refusal = (None, None) if stored is None else (stored.body, stored.refusal)
    return (
        request.id,
        request.operation,
        request.key,
        request.fingerprint,
        refusal,
        body,
        now,
        now + request.retention,
    )


async def claim(tx: Transaction, request: Keyed, now: float) -> bool:
    """Take the row of `request` inside `tx`; False: it is taken, or about to be."""
    values = record_values(request, None, now)
    if tx.dialect == "postgres":
        lock = int.from_bytes(request.id[:8], signed=True)
        return bool(await tx.run(_CLAIM_LOCKED, *values, lock))
    return bool(await tx.run(RECORD, *values))


def record_on(
    connection: sqlite3.Connection, request: Keyed, stored: Stored | None, now: float
) -> Known | None:
    """Write the row of `request` on SQLite, or return the one that is there already."""
    if connection.execute(RECORD, record_values(request, stored, now)).fetchall():
        return None
    return known(connection.execute(LOOKUP, (request.id, now)).fetchall())


def store_on(connection: sqlite3.Connection, request: Keyed, stored: Stored, now: float) -> None:
    """Fill the claimed row, on SQLite."""
    connection.execute(_STORE, _stored(request, stored, now))


async def store(tx: Transaction, request: Keyed, stored: Stored, now: float) -> None:
    """Fill the claimed row."""
    await tx.run(_STORE, *_stored(request, stored, now))


def _stored(request: Keyed, stored: Stored, now: float) -> tuple[Value, ...]:
    return stored.refusal, stored.body, now, now + request.retention, request.id
