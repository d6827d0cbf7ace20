"""The tables of the embedded log, as functions on a connection: append, read, lag, retention.

A record's row id is its partition's number in the high bits and its offset in the low 40, so that a
partition is one range of the table and a read is one range scan. Offsets are given out inside the
write transaction: they are in the order of the commits, without gaps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Delivery,
    Lag,
    Partition,
    Record,
    TopicRefused,
)

__all__ = [
    "NOW",
    "SCHEMA",
    "Appended",
    "Retention",
    "append",
    "expire",
    "heads",
    "held_back",
    "lag",
    "parts_of",
    "read",
    "search",
    "topic_parts",
]

NOW: Final = "((julianday('now') - 2440587.5) * 86400.0)"
"""The database's clock, in Unix seconds; leases live by it alone."""

SCHEMA: Final = (
    """
    CREATE TABLE part (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL,
        head INTEGER NOT NULL DEFAULT 0, tail INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number));
    CREATE TABLE log (
        id INTEGER PRIMARY KEY, key TEXT, headers BLOB NOT NULL, value BLOB NOT NULL,
        at REAL NOT NULL);
    CREATE TABLE grp (
        name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seen REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE member (
        grp TEXT NOT NULL, id TEXT NOT NULL, topics TEXT NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY (grp, id)) WITHOUT ROWID;
    CREATE TABLE lease (
        grp TEXT NOT NULL, part INTEGER NOT NULL, member TEXT, generation INTEGER NOT NULL,
        expires REAL NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (grp, part)) WITHOUT ROWID;
    """,
    """
    ALTER TABLE part ADD COLUMN parts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE part ADD COLUMN held REAL NOT NULL DEFAULT 0;
    """,
)
"""`parts`: how many partitions the topic has, once that was changed; `held`: until when nothing is
appended to the topic. See `events/arrange.py`."""

_SHIFT: Final = 40
_OFFSETS: Final = (1 << _SHIFT) - 1
_STEP: Final = 500
_MOST_BYTES: Final = 8_000_000
"""Bytes of values after which a read ends."""
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


class Appended(NamedTuple):
    """What an append learned: the topics' partitions, and how many rows it wrote."""

    topics: dict[str, tuple[int, ...]]
    rows: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept. What a living group has not read is kept in any case."""

    age: float
    """Seconds."""
    size: int | None
    """Bytes of one partition; None: no bound."""
    forget: float
    """Seconds after which a group that nobody has joined no longer holds records back."""


def topic_parts(
    connection: sqlite3.Connection, topic: str, partitions: int | None, default: int
) -> tuple[int, ...]:
    """Return the ids of a topic's partitions in order, creating the topic if it is new.

    Raises `TopicRefused` if `partitions` is given and the topic has another number of them.
    """
    found = parts_of(connection, topic)
    if not found:
        rows = ((topic, number) for number in range(partitions or default))
        connection.executemany("INSERT INTO part (topic, number) VALUES (?, ?)", rows)
        found = parts_of(connection, topic)
    if partitions is not None and len(found) != partitions:
        raise TopicRefused(
            topic,
            f"the topic {topic} has {len(found)} partitions, and {partitions} were asked for.",
            fix="A key would change its partition. Leave the number out to take the topic's own.",
        )
    return found


def parts_of(connection: sqlite3.Connection, topic: str) -> tuple[int, ...]:
    """Return the ids of a topic's partitions in order; none if there is no such topic."""
    rows = connection.execute("SELECT id FROM part WHERE topic = ? ORDER BY number", (topic,))
    return tuple(row[0] for row in rows)


def append(
    connection: sqlite3.Connection,
    records: Sequence[Record],
    topics: Mapping[str, tuple[int, ...]],
    *,
    at: float,
    spread: int,
    partitions: int | None,
    default: int,
) -> Appended:
    """Append records in order. `spread` is where records without a key begin to go round.

    `topics` are partitions that are known already. Raises `BrokerUnavailable` for a topic that is
    held back.
    """
    known = _current(connection, topics, {record.topic for record in records})
    next_offset: dict[int, int] = {}
    grown: dict[int, int] = {}
    rows: list[tuple[int, str | None, bytes, bytes, float]] = []
    for record in records:
        parts = known.get(record.topic)
        if parts is None:
            # one that has been rearranged meanwhile has more than was asked for at the start
            asked = None if record.topic in topics else partitions
            parts = topic_parts(connection, record.topic, asked, default)
            known[record.topic] = parts
        if record.key is None:
            spread += 1
            part = parts[spread % len(parts)]
        else:
            part = parts[partition_of(record.key, len(parts))]
        offset = next_offset.get(part)
        if offset is None:
            offset = connection.execute("SELECT head FROM part WHERE id = ?", (part,)).fetchone()[0]
        next_offset[part] = offset + 1
        headers = msgspec.json.encode(record.headers)
        grown[part] = grown.get(part, 0) + len(headers) + len(record.value)
        rows.append((part << _SHIFT | offset, record.key, headers, record.value, at))
    connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", rows)
    connection.executemany(
        "UPDATE part SET head = ?, bytes = bytes + ? WHERE id = ?",
        [(head, grown[part], part) for part, head in next_offset.items()],
    )
    return Appended(known, len(rows))


def _current(
    connection: sqlite3.Connection, topics: Mapping[str, tuple[int, ...]], wanted: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    """Return the partitions of topics that are known, without those that have other ones by now."""
    known = dict(topics)
    for topic in wanted:
        rows = connection.execute(
            f"SELECT parts, held > {NOW} FROM part WHERE topic = ? AND number = 0",  # noqa: S608  constant
            (topic,),
        ).fetchall()
        for parts, held in rows:
            if held:
                raise held_back(topic)
            if topic in known and parts not in (0, len(known[topic])):
                del known[topic]
    return known


def held_back(topic: str) -> BrokerUnavailable:
    """Return what is raised for a topic to which nothing is appended for now."""
    return BrokerUnavailable(f"the topic {topic} is held back until it has been rearranged")


def read(
    connection: sqlite3.Connection, wanted: Sequence[tuple[Partition, int, int]], limit: int
) -> list[Delivery]:
    """Read at most `limit` records of the partitions `(partition, id, position)`.

    Each partition gets an equal share first; what one leaves over goes to those that follow. Large
    records end it early.
    """
    found: list[Delivery] = []
    size = 0
    for index, (partition, part, position) in enumerate(wanted):
        left = limit - len(found)
        share = -(-left // (len(wanted) - index))
        if share <= 0:
            break
        base = part << _SHIFT
        rows = connection.execute(
            "SELECT id, key, headers, value, at FROM log WHERE id >= ? AND id < ? ORDER BY id "
            "LIMIT ?",
            (base + position, (part + 1) << _SHIFT, share),
        )
        for row, key, headers, value, at in rows:
            found.append(Delivery(partition, row - base, key, _headers(headers), value, at))
            size += len(value)
            if size > _MOST_BYTES:
                return found
    return found


def search(connection: sqlite3.Connection, text: bytes, limit: int) -> list[Delivery]:
    """Return records with `text` in their headers or value, in the order of the partitions."""
    rows = connection.execute(
        "SELECT log.id, topic, number, key, headers, value, at FROM log "
        "JOIN part ON part.id = log.id >> ?3 "
        "WHERE instr(headers, ?1) > 0 OR instr(value, ?1) > 0 ORDER BY log.id LIMIT ?2",
        (text, limit, _SHIFT),
    )
    return [
        Delivery(Partition(topic, number), row & _OFFSETS, key, _headers(headers), value, at)
        for row, topic, number, key, headers, value, at in rows
    ]


def _headers(data: bytes) -> dict[str, str]:
    """Return a record's headers; none where they cannot be read.

    A record without headers is no event, so its consumer parks it: one bad row stops nobody.
    """
    try:
        return _HEADERS.decode(data)
    except msgspec.DecodeError:
        return {}


def heads(connection: sqlite3.Connection) -> tuple[dict[int, int], dict[str, int]]:
    """Return the next offset of every partition by id, and the epoch of every group by name."""
    return (
        dict(connection.execute("SELECT id, head FROM part")),
        dict(connection.execute("SELECT name, epoch FROM grp")),
    )


def lag(connection: sqlite3.Connection, group: str, topics: Sequence[str]) -> Lag:
    """Return how many records `group` has not committed, and the age of the oldest."""
    events = 0
    since: list[float] = []
    connection.execute("BEGIN")  # both statements see one state
    try:
        for topic in topics:
            rows = connection.execute(
                "SELECT part.id, head, max(tail, coalesce(position, 0)) FROM part LEFT JOIN lease "
                "ON lease.grp = ? AND lease.part = part.id WHERE topic = ?",
                (group, topic),
            ).fetchall()
            for part, head, position in rows:
                if head <= position:
                    continue
                events += head - position
                row = connection.execute(
                    f"SELECT {NOW} - at FROM log WHERE id = ?",  # noqa: S608  a constant
                    (part << _SHIFT | position,),
                ).fetchone()
                if row is not None:
                    since.append(row[0])
    finally:
        connection.execute("COMMIT")
    return Lag(events, max(0.0, *since) if since else None)


def expire(connection: sqlite3.Connection, retention: Retention, *, dry: bool = False) -> int:
    """Delete one small step of what need not be kept, and return how many records that were.

    With `dry`, delete nothing and tell how many the step would take: a log with nothing to delete
    then costs no write.
    """
    now = connection.execute(f"SELECT {NOW}").fetchone()[0]
    held: dict[int, int] = dict(
        connection.execute(
            "SELECT part, min(position) FROM lease JOIN grp ON grp.name = lease.grp "
            "WHERE grp.seen > ? GROUP BY part",
            (now - retention.forget,),
        )
    )
    for part, head, tail, size in connection.execute(
        "SELECT id, head, tail, bytes FROM part WHERE head > tail"
    ).fetchall():
        end = min(tail + _STEP, head, held.get(part, head))
        if end <= tail:
            continue
        base = part << _SHIFT
        until = base + end
        if retention.size is None or size <= retention.size:
            kept = connection.execute(
                "SELECT min(id) FROM log WHERE id >= ? AND id < ? AND at >= ?",
                (base + tail, base + end, now - retention.age),
            ).fetchone()[0]
            until = kept if kept is not None else until
        else:
            until = _until_size(connection, base + tail, until, size - retention.size)
        if until <= base + tail:
            continue
        if not dry:
            _cut(connection, part, base + tail, until)
        return int(until - base - tail)
    return 0


def _until_size(connection: sqlite3.Connection, start: int, end: int, excess: int) -> int:
    for row, size in connection.execute(
        "SELECT id, length(headers) + length(value) FROM log WHERE id >= ? AND id < ? ORDER BY id",
        (start, end),
    ):
        if excess <= 0:
            return int(row)
        excess -= size
    return end


def _cut(connection: sqlite3.Connection, part: int, start: int, until: int) -> None:
    size = connection.execute(
        "SELECT coalesce(sum(length(headers) + length(value)), 0) FROM log "
        "WHERE id >= ? AND id < ?",
        (start, until),
    ).fetchone()[0]
    connection.execute("DELETE FROM log WHERE id >= ? AND id < ?", (start, until))
    connection.execute(
        "UPDATE part SET tail = ?, bytes = bytes - ? WHERE id = ?",
        (until - (part << _SHIFT), size, part),
    )
