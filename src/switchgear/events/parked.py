"""Parked events: those that wait for a person, and those that wait behind them.

They are rows in the consumer's own database, whole, with headers, reason, attempts and last error.
The rows of one lane (one key of one consumer) are a queue in the order of the log. A queue is
*held* until a person releases it (`redrive`) or drops events from it (`discard`), or *ready*: the
consumer works it off from its head. Every act of a person is recorded in the audit table.

An event is what its producer said, so it is never changed. `edit` puts a new event in its place in
the queue, with the corrected data and an id of its own, which names the old one in `ce-replaces`.
The old one counts as handled, and the audit keeps both, whole.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import msgspec

from switchgear.database.port import Database, Reader, Row, Transaction, Value
from switchgear.errors import BrokerError
from switchgear.events.envelope import Ids
from switchgear.events.incoming import without_nul
from switchgear.events.keeper import STEP as KEEPER
from switchgear.events.sql import now

__all__ = ["STEPS", "Audit", "NotEditable", "NotParked", "Parked", "ParkedEvent", "Waiting"]

STEPS: Final = (
    """
    CREATE TABLE switchgear_parked (
        id {serial}, consumer TEXT NOT NULL, topic TEXT NOT NULL, part BIGINT NOT NULL,
        lane TEXT NOT NULL, key TEXT, event TEXT NOT NULL, type TEXT NOT NULL,
        headers {blob} NOT NULL, data {blob} NOT NULL, cause TEXT NOT NULL, state TEXT NOT NULL,
        attempts BIGINT NOT NULL, error TEXT NOT NULL, at {real} NOT NULL,
        UNIQUE (consumer, event));
    CREATE INDEX switchgear_parked_lane ON switchgear_parked (consumer, topic, part, lane, id);
    CREATE TABLE switchgear_parked_audit (
        id {serial}, at {real} NOT NULL, action TEXT NOT NULL, actor TEXT NOT NULL,
        reason TEXT NOT NULL, consumer TEXT NOT NULL, event TEXT NOT NULL, type TEXT NOT NULL,
        key TEXT, headers {blob} NOT NULL, data {blob} NOT NULL);
    """,
    KEEPER,
)

_COLUMNS: Final = (
    "id, consumer, topic, part, key, event, type, headers, data, cause, state, attempts, error, "
    "at, lane"
)
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


class NotParked(BrokerError):
    """No parked event has this number: it was handled or discarded, or never parked."""

    code = "SG607"


class NotEditable(BrokerError):
    """A parked event has no envelope that another could be made from, so it cannot be edited."""

    code = "SG622"


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """One parked event."""

    id: int
    """Its number here; events of one key are in the order of these numbers."""
    consumer: str
    topic: str
    partition: int
    key: str | None
    event: str
    """Source and id."""
    type: str
    headers: Mapping[str, str]
    data: bytes
    cause: Literal["failed", "poison", "blocked", "behind"]
    """Why: it used up its attempts, cannot be read, is still being tried, or waits its turn."""
    state: Literal["held", "ready"]
    attempts: int
    error: str
    at: float
    """When it was parked, in Unix seconds."""
    lane: str
    """The queue it is in."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a person did to a parked event; the event itself is kept whole."""

    id: int
    at: float
    action: Literal["redrive", "discard", "edit", "edited"]
    """`edit` keeps the event as it was, and the `edited` after it the one in its place."""
    actor: str
    reason: str
    consumer: str
    event: str
    type: str
    key: str | None
    headers: Mapping[str, str]
    data: bytes


class Waiting(NamedTuple):
    """What waits in the database of a consumer."""

    held: int
    """Events that wait for a person."""
    held_keys: int
    ready: int
    """Events that wait for an attempt: of a key that is blocked, or released."""
    ready_age: float | None
    """Seconds for which the oldest of those that are tried again has been here; None: none is."""


class Parked:
    """The parked events of all consumers of one database."""

    def __init__(self, database: Database, *, ids: Callable[[], str] | None = None) -> None:
        self._database = database
        self._ids = ids or Ids(time.time_ns, random.SystemRandom().getrandbits)

    async def list(
        self,
        *,
        consumer: str | None = None,
        key: str | None = None,
        limit: int = 100,
        after: int = 0,
    ) -> Sequence[ParkedEvent]:
        """Return parked events in order; `after` is the id of the last one already seen."""
        where, args = _where(consumer=consumer, key=key)
        async with self._database.reading() as tx:
            rows = await tx.run(
                f"SELECT {_COLUMNS} FROM switchgear_parked WHERE id > ?{where} ORDER BY id LIMIT ?",  # noqa: S608  constants
                after,
                *args,
                limit,
            )
        return [_event(row) for row in rows]

    async def show(self, id: int) -> ParkedEvent:  # noqa: A002  the word on the command line
        """Return one parked event. Raises `NotParked`."""
        async with self._database.reading() as tx:
            return await _find(tx, id)

    async def count(self, consumer: str | None = None) -> tuple[int, int]:
        """Return how many events wait for a person, and how many keys they are of."""
        found = await self.waiting(consumer)
        return found.held, found.held_keys

    async def waiting(self, consumer: str | None = None) -> Waiting:
        """Return what waits, for a person or for its next attempt."""
        where, args = _where(consumer=consumer)
        lane = "consumer || ' ' || topic || ' ' || lane"
        async with self._database.reading() as tx:
            rows = await tx.run(
                "SELECT count(CASE WHEN state = 'held' THEN 1 END), "  # noqa: S608  constants
                f"count(DISTINCT CASE WHEN state = 'held' THEN {lane} END), "
                "count(CASE WHEN state = 'ready' THEN 1 END), "
                f"{now(tx.dialect)} - min(CASE WHEN state = 'ready' THEN at END) "
                f"FROM switchgear_parked WHERE 1 = 1{where}",
                *args,
            )
        held, keys, ready, age = rows[0]
        return Waiting(held, keys, ready, None if age is None else max(0.0, age))

    async def redrive(
        self,
        *,
        id: int | None = None,  # noqa: A002  the word on the command line
        key: str | None = None,
        consumer: str | None = None,
        dry_run: bool = False,
        actor: str = "",
        reason: str = "",
    ) -> Sequence[ParkedEvent]:
        """Release queues, so that the consumer handles them in order; return what is released.

        With `id` the queue that this event is in, with `key` the queues of that key, otherwise all
        (of `consumer`). A queue is always released whole: no event overtakes another of its key.
        What is released already is not released again. `dry_run` only returns.
        """
        async with self._database.transaction() as tx:
            where, args = _where(consumer=consumer, key=key)
            if id is not None:
                found = await _find(tx, id)
                where += " AND consumer = ? AND topic = ? AND part = ? AND lane = ?"
                args += [found.consumer, found.topic, found.partition, found.lane]
            rows = await tx.run(
                f"SELECT {_COLUMNS} FROM switchgear_parked WHERE state = 'held'{where} ORDER BY id",  # noqa: S608  constants
                *args,
            )
            if dry_run:
                return [_event(row) for row in rows]
            for row in rows:
                await tx.run("UPDATE switchgear_parked SET state = 'ready' WHERE id = ?", row[0])
                await _record(tx, "redrive", row, actor=actor, reason=reason)
        return [_event(row) for row in rows]

    async def discard(self, id: int, *, reason: str, actor: str) -> ParkedEvent:  # noqa: A002  as above
        """Drop an event for good; it stays in the audit, whole.

        It counts as handled from then on, also if the broker delivers it again. Raises `NotParked`,
        and `ValueError` without a reason.
        """
        if not reason.strip():
            raise ValueError("Discarding an event needs a reason.")
        async with self._database.transaction() as tx:
            rows = await tx.run(
                f"DELETE FROM switchgear_parked WHERE id = ? RETURNING {_COLUMNS}",  # noqa: S608  constant
                id,
            )
            if not rows:
                raise _missing(id)
            row = rows[0]
            await _record(tx, "discard", row, actor=actor, reason=reason)
            await tx.run(
                "INSERT INTO switchgear_inbox (consumer, event, at) "  # noqa: S608  a constant
                f"VALUES (?, ?, {now(tx.dialect)}) ON CONFLICT (consumer, event) DO NOTHING",
                row[1],
                row[5],
            )
        return _event(row)

    async def edit(self, id: int, data: bytes, *, reason: str, actor: str) -> ParkedEvent:  # noqa: A002  as above
        """Put a new event with `data` in the place of a parked one, and return it.

        It keeps its place in the queue, its key, type and time; it has an id of its own, and waits
        as the old one did. Raises `NotParked`, also if the old one was handled meanwhile,
        `NotEditable` for what is no CloudEvent, and `ValueError` without a reason.
        """
        if not reason.strip():
            raise ValueError("Editing an event needs a reason.")
        async with self._database.transaction() as tx:
            old = await _find(tx, id)
            headers = _replacing(old, self._ids())
            identity = without_nul(f"{headers['ce-source']}/{headers['ce-id']}")
            # first, so that a consumer that is at work on it is waited for, and then is seen
            claimed = await tx.run(
                "INSERT INTO switchgear_inbox (consumer, event, at) "  # noqa: S608  a constant
                f"VALUES (?, ?, {now(tx.dialect)}) "
                "ON CONFLICT (consumer, event) DO NOTHING RETURNING event",
                old.consumer,
                old.event,
            )
            before = await tx.run(
                f"SELECT {_COLUMNS} FROM switchgear_parked WHERE id = ? AND event = ?",  # noqa: S608  constant
                id,
                old.event,
            )
            rows = await tx.run(
                "UPDATE switchgear_parked SET event = ?, headers = ?, data = ?, attempts = 0, "  # noqa: S608  constant
                f"error = ? WHERE id = ? AND event = ? RETURNING {_COLUMNS}",
                identity,
                msgspec.json.encode(headers),
                data,
                f"not tried yet: it replaces {old.event}",
                id,
                old.event,
            )
            if not (claimed and before and rows):
                raise _missing(id)
            await _record(tx, "edit", before[0], actor=actor, reason=reason)
            await _record(tx, "edited", rows[0], actor=actor, reason=reason)
        return _event(rows[0])

    async def audit(self, *, limit: int = 100) -> Sequence[Audit]:
        """Return what was done, the newest first."""
        async with self._database.reading() as tx:
            rows = await tx.run(
                "SELECT id, at, action, actor, reason, consumer, event, type, key, headers, data "
                "FROM switchgear_parked_audit ORDER BY id DESC LIMIT ?",
                limit,
            )
        return [Audit(*(*row[:9], _HEADERS.decode(row[9]), bytes(row[10]))) for row in rows]


def _where(*, consumer: str | None = None, key: str | None = None) -> tuple[str, list[Value]]:
    where = ""
    args: list[Value] = []
    if consumer is not None:
        where += " AND consumer = ?"
        args.append(consumer)
    if key is not None:
        where += " AND key = ?"
        args.append(key)
    return where, args


async def _find(tx: Reader, number: int) -> ParkedEvent:
    rows = await tx.run(f"SELECT {_COLUMNS} FROM switchgear_parked WHERE id = ?", number)  # noqa: S608  constant
    if not rows:
        raise _missing(number)
    return _event(rows[0])


async def _record(tx: Transaction, action: str, row: Row, *, actor: str, reason: str) -> None:
    await tx.run(
        "INSERT INTO switchgear_parked_audit "  # noqa: S608  a constant
        "(at, action, actor, reason, consumer, event, type, key, headers, data) "
        f"VALUES ({now(tx.dialect)}, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        action,
        actor,
        reason,
        row[1],
        row[5],
        row[6],
        row[4],
        row[7],
        row[8],
    )


def _event(row: Row) -> ParkedEvent:
    return ParkedEvent(*(*row[:7], _HEADERS.decode(row[7]), bytes(row[8]), *row[9:]))


def _replacing(old: ParkedEvent, number: str) -> dict[str, str]:
    """Return the headers of the event that takes the place of `old`."""
    if not (old.headers.get("ce-source") and old.headers.get("ce-id")):
        raise NotEditable(
            f"the event {old.id} is no CloudEvent, so nothing would read what it is changed to.",
            fix="Publish the right event from its source, and discard this one.",
        )
    named = {"ce-id": number, "ce-causationid": old.headers["ce-id"], "ce-replaces": old.event}
    return {**old.headers, **named}


def _missing(number: int) -> NotParked:
    return NotParked(
        f"no parked event has the number {number}.",
        fix="`switchgear events parked` lists them; it may have been handled meanwhile.",
    )
